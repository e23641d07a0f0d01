"""The detector that a checkpoint holds: its config, its parts, its weights."""

import copy
from collections.abc import Iterator

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from cellseg_mm.utils import UserError, load_config, parse_config_text, scored_dataset

from .data_facts import checkpoint_data_facts, set_data_facts
from .starting_weights import check_weights_fit


def checkpoint_config(checkpoint: dict, path: str, config: str | None = None) -> Config:
    """The config that a checkpoint carries, or another one with the checkpoint's classes and normalisation put in.

    Args:
        checkpoint (dict): Of :func:`read_checkpoint`.
        path (str): Its file, for messages.
        config (str | None): A config file.

    Raises:
        UserError: If the checkpoint carries none, or one that could run a program; or if there is no such file.
    """
    facts = checkpoint_data_facts(checkpoint, path)
    own = Config(parse_config_text(checkpoint['meta']['cfg']))
    if config is None:
        _check_harmless(own, path)
        return own
    cfg = load_config(str(config))
    set_data_facts(cfg, **facts)
    cfg.channel_order = own.get('channel_order')
    return cfg


def input_pipeline(cfg: Config) -> list:
    """The steps of an image on its way to the detector: in testing, in predicting and for an ONNX file the same ones.

    They are those of the test data set. ``cfg.test_pipeline`` is only a name for them in the config's file, which
    ``--cfg-options`` and child configs may leave behind.
    """
    return scored_dataset(cfg.test_dataloader.dataset).get('pipeline', [])


def build_detector(cfg: Config) -> torch.nn.Module:
    """The detector of a config on the CPU, in eval mode, without weights."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(copy.deepcopy(cfg.model)).eval()  # mmdet's constructors change what they are given


def load_detector(cfg: Config, checkpoint: dict, path: str, config: str | None = None) -> torch.nn.Module:
    """The detector of a checkpoint on the CPU, in eval mode.

    Args:
        cfg (Config): Of :func:`checkpoint_config`, and maybe changed since.
        checkpoint (dict): As there, like the others.
        path (str): Likewise.
        config (str | None): Likewise.

    Raises:
        UserError: If the config's model cannot be built, or the weights are not of it.
    """
    try:
        detector = build_detector(cfg)
    except Exception as error:  # of any kind, by a config of another version or project
        raise UserError(f'{config or path}: its model cannot be built ({error!r})') from error
    check_weights_fit(detector, checkpoint, config or 'its own config', path)
    detector.load_state_dict(checkpoint['state_dict'])
    return detector


def _pipelines(value: object) -> Iterator:
    """What stands under ``pipeline``, however deep."""
    if isinstance(value, dict):
        yield value.get('pipeline')
        value = list(value.values())
    for entry in value if isinstance(value, (list, tuple)) else []:
        yield from _pipelines(entry)


def _check_harmless(cfg: Config, path: str) -> None:
    """Refuse a config by which building the model, or running it, could run any program.

    MMEngine imports and calls whatever a dotted ``type`` names; mmcv's ``nms`` and a part of mmdet evaluate strings as
    Python. Registered parts have plain names, and without a bracket Python calls nothing.

    Raises:
        UserError: Naming the first such value.
    """
    queue = [cfg.model, cfg.get('tta_model'), *_pipelines(cfg.get('test_dataloader'))]
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
                f'{path}: its config names {suspect!r}, which may be any program; if you trust it, give its config by '
                '--config'
            )
