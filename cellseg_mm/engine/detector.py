"""The detector that a checkpoint holds: its config, its parts, its weights."""

import copy

import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from cellseg_mm.models.detector_config import check_detector
from cellseg_mm.utils import UserError, load_config, parse_config_text, scored_dataset
from cellseg_mm.utils.config import inner_dicts

from .data_facts import checkpoint_data_facts, set_data_facts
from .starting_weights import check_weights_fit


def checkpoint_config(checkpoint: dict, path: str, config: str | None = None) -> Config:
    """The config in a checkpoint, or another one with the checkpoint's classes and normalisation put in.

    Args:
        checkpoint (dict): From :func:`read_checkpoint`.
        path (str): Its file, for messages.
        config (str | None): A config file to use instead of the checkpoint's config.

    Raises:
        UserError: If the checkpoint holds no config, or one that could run a program, that needs a plugin, or
            that is not of a detector of instances; or if the file is missing.
    """
    facts = checkpoint_data_facts(checkpoint, path)
    own = Config(parse_config_text(checkpoint['meta']['cfg']))
    if config is None:
        _check_harmless(own, path)
        check_detector(own.model, path)
        _check_plugins(own, path)
        return own
    cfg = load_config(str(config))
    check_detector(cfg.model, config)
    set_data_facts(cfg, **facts)
    cfg.channel_order, cfg.pixel_size = own.get('channel_order'), own.get('pixel_size')
    return cfg


def input_pipeline(cfg: Config) -> list:
    """The steps from an image file to the detector's input, the same in testing, in prediction and for an ONNX file.

    They are those of the test data set. ``cfg.test_pipeline`` is only a name for them in the config file;
    ``--cfg-options`` and child configs may change the data set's and leave that name behind.
    """
    return scored_dataset(cfg.test_dataloader.dataset).get('pipeline', [])


def build_detector(cfg: Config) -> torch.nn.Module:
    """The detector of a config on the CPU, in eval mode, without weights."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(copy.deepcopy(cfg.model)).eval()  # mmdet's constructors change their arguments


def load_detector(cfg: Config, checkpoint: dict, path: str, config: str | None = None) -> torch.nn.Module:
    """The detector of a checkpoint on the CPU, in eval mode.

    Args:
        cfg (Config): From :func:`checkpoint_config`; it may have been changed since.
        checkpoint (dict): From :func:`read_checkpoint`.
        path (str): The checkpoint's file, for messages.
        config (str | None): The config file if ``cfg`` comes from one, for messages.

    Raises:
        UserError: If the config's model cannot be built, or the weights do not fit it.
    """
    try:
        detector = build_detector(cfg)
    except Exception as error:  # a config of another version or project raises any kind
        raise UserError(f'{config or path}: its model cannot be built ({error!r})') from error
    check_weights_fit(detector, checkpoint, config or 'its own config', path)
    detector.load_state_dict(checkpoint['state_dict'])
    return detector


def _check_plugins(cfg: Config, path: str) -> None:
    """Refuse a config whose model or input needs a plugin, which is imported only if a config file names it.

    Raises:
        UserError: With the names of the plugins.
    """
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    imports = [imports] if isinstance(imports, str) else imports
    plugins = [name for name in imports if name.split('.')[0] != 'cellseg_mm']
    if not plugins:
        return
    try:
        build_detector(cfg)
        for step in input_pipeline(cfg):
            TRANSFORMS.build(step)
    except Exception as error:  # of any kind
        raise UserError(
            f'{path}: needs {", ".join(plugins)} (custom_imports), and nothing that a checkpoint names is imported; if '
            'you trust it, give its config with --config (tools/test.py: before the checkpoint)'
        ) from error


def _check_harmless(cfg: Config, path: str) -> None:
    """Refuse a config whose model could run any program when it is built or used.

    MMEngine imports and calls whatever a dotted ``type`` names; mmcv's ``nms`` and a part of mmdet evaluate strings as
    Python. Registered parts have plain names, and Python calls nothing without a bracket.

    Raises:
        UserError: For the first such value.
    """
    pipelines = [part.get('pipeline') for part in inner_dicts(cfg.get('test_dataloader'))]
    queue = [cfg.model, cfg.get('tta_model'), *pipelines]
    while queue:
        value = queue.pop()
        if isinstance(value, dict):
            queue += value.values()
            suspect = value.get('type')
            harmless = suspect is None or str(suspect).isidentifier()
        else:
            queue += value if isinstance(value, (list, tuple)) else []
            suspect, harmless = value, not isinstance(value, str) or '(' not in value
        if not harmless:
            raise UserError(
                f'{path}: its config names {suspect!r}, which may be any program; if you trust it, give its config '
                'with --config'
            )
