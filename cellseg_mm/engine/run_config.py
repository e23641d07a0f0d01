"""From a config file, or a checkpoint, to the config of a training or a test."""

import re
from pathlib import Path

from mmengine.config import Config

from cellseg_mm.models.detector_config import check_detector, forget_pretrained
from cellseg_mm.utils import PROJECT_ROOT, UserError, inner_dataset_configs, load_config
from cellseg_mm.weights import find_checkpoint

from .checkpoint import latest_checkpoint, read_checkpoint
from .data_facts import checkpoint_data_facts, fill_from_prepared_data, set_data_facts, warn_of_other_pixel_size
from .detector import checkpoint_config, input_pipeline
from .precision import resume_precision
from .starting_weights import check_same_classes, start_from_checkpoint, train_from_scratch, use_backbone_weights

# data, schedule and runtime of a test whose model comes from a checkpoint
PRESET = PROJECT_ROOT / 'configs/_base_/default_preset.py'
# keys of that preset without which no run starts
REQUIRED = ('model', 'data_root', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator')
REQUIRED += ('test_evaluator', 'optim_wrapper', 'default_hooks', 'randomness')
STARTED = re.compile(r'_\d{8}_\d{6}$')  # the time at the end of MMEngine's names


def training_config(
    config: str,
    options: dict | None = None,
    work_dir: str | None = None,
    seed: int | None = None,
    from_scratch: bool = False,
    backbone_weights: str | None = None,
    load_from: str | None = None,
) -> Config:
    """The whole config of a training run.

    It is ready for a Runner after :func:`cellseg_mm.engine.precision.fit_precision_to_device`.

    Args:
        config (str): A config file.
        options (dict | None): Dotted keys to change, ``--cfg-options``.
        work_dir (str | None): See :func:`set_work_dir`.
        seed (int | None): Replaces the config's seed.
        from_scratch (bool): See :func:`train_from_scratch`.
        backbone_weights (str | None): See :func:`use_backbone_weights`.
        load_from (str | None): See :func:`start_from_checkpoint`.

    Raises:
        UserError: If the config, the prepared set or a file of weights is missing, the config does not belong to this
            project, or the seed is out of range.
    """
    cfg = load_config(config, options)
    _check_project(cfg, config)
    set_work_dir(cfg, work_dir, config)
    fill_from_prepared_data(cfg)
    if seed is not None:
        cfg.randomness.seed = seed
    if not 0 <= (cfg.randomness.get('seed') or 0) < 2**32:
        raise UserError(f'seed {cfg.randomness.seed}: seeds go from 0 to {2**32 - 1}')
    if from_scratch:
        train_from_scratch(cfg)
    elif backbone_weights:
        use_backbone_weights(cfg, backbone_weights)
    elif load_from:
        start_from_checkpoint(cfg, load_from)
        warn_of_other_pixel_size(Path(cfg.data_root), read_checkpoint(load_from), load_from)
    return cfg


def _check_project(cfg: Config, path: str) -> None:
    """Refuse a config that does not build on one of this project, such as MMDetection's own, and one without a
    detector of instances.

    A config may import other modules, or train on another type of data set, but not both. It needs the keys that the
    presets set.
    """
    imports = (cfg.get('custom_imports') or {}).get('imports', [])
    datasets = inner_dataset_configs(cfg.train_dataloader.dataset) if 'train_dataloader' in cfg else []
    if 'cellseg_mm' not in imports and 'CellDataset' not in [dataset.get('type') for dataset in datasets]:
        raise UserError(f'{path}: not a config of this project; build on one in configs/, see README.md')
    missing = [key for key in REQUIRED if key not in cfg]
    if missing:
        raise UserError(
            f'{path}: has no {", ".join(missing)}; inherit configs/_base_/default_preset.py, see docs/own_detector.md'
        )
    check_detector(cfg.model, path)


def resume_run(cfg: Config, given: str | None) -> dict | None:
    """Resume a run from a checkpoint, in its precision.

    Args:
        cfg (Config): Changed in place: ``resume``, ``load_from`` and the precision.
        given (str | None): ``--resume``: a checkpoint, or ``'auto'`` for the last one in the work dir; None for the
            config's own ``resume``.

    Returns:
        dict | None: The checkpoint; None for a new run, also if the work dir holds no checkpoint yet.

    Raises:
        UserError: If the checkpoint holds weights alone, or was trained on other classes.
    """
    if given or cfg.resume:
        given = given or cfg.load_from or 'auto'
        found = latest_checkpoint(cfg.work_dir) if given == 'auto' else given
        cfg.resume = found is not None
        cfg.load_from = found or cfg.load_from  # a new run starts from the weights of its config
    if not cfg.resume:
        return None
    checkpoint = read_checkpoint(cfg.load_from)
    if 'optimizer' not in checkpoint:
        raise UserError(f'{cfg.load_from}: holds weights, but no run to resume; fine-tune it with --load-from')
    check_same_classes(cfg, checkpoint, cfg.load_from)
    resume_precision(cfg, checkpoint)
    return checkpoint


def testing_config(checkpoint: str, config: str | None = None, options: dict | None = None) -> tuple:
    """The config of a test of a checkpoint: its data set's normalisation and classes are those of the checkpoint.

    Args:
        checkpoint (str): A file of weights, or the name of a shipped model; the config's ``load_from`` is the file.
        config (str | None): A config file. Without one the checkpoint's own config gives the model, the views of
            ``--tta``, the test pipeline and the data root. Everything else then comes from the default preset, so no
            other part of the checkpoint's config is run.
        options (dict | None): Dotted keys to change, ``--cfg-options``.

    Returns:
        tuple: The config, and the checkpoint's content, see :func:`read_checkpoint`.

    Raises:
        UserError: If a file is missing, the checkpoint holds no config with normalisation and classes, or a config is
            given in its place.
    """
    if checkpoint.endswith('.py'):
        raise UserError(f'{checkpoint}: is a config, but a checkpoint is needed; give it after the config')
    path = find_checkpoint(checkpoint)
    content = read_checkpoint(path)
    cfg = load_config(config, options) if config else _own_testing_config(content, path, options)
    check_detector(cfg.model, config or path)
    set_data_facts(cfg, **checkpoint_data_facts(content, path))
    forget_pretrained(cfg.model)  # all weights come from the checkpoint
    cfg.load_from = path
    return cfg, content


def _own_testing_config(checkpoint: dict, path: str, options: dict | None) -> Config:
    """The default preset with the model and the input of the checkpoint's own config."""
    own = checkpoint_config(checkpoint, path)
    if 'test_dataloader' not in own:
        raise UserError(f'{path}: no test data set in its config; give a config before the checkpoint')
    entries = load_config(str(PRESET)).to_dict()
    entries |= {key: own[key] for key in ('model', 'tta_model', 'data_root', 'channel_order') if key in own}
    # the name under which MMEngine writes the config into the work dir: that of the training's config
    name = STARTED.sub('', checkpoint['meta'].get('experiment_name') or Path(path).stem)
    cfg = Config(entries, checkpoint['meta']['cfg'], f'{name}.py')
    cfg.test_dataloader.dataset.pipeline = input_pipeline(own)
    cfg.merge_from_dict(options or {})
    return cfg


def set_work_dir(cfg: Config, work_dir: str | None, config_path: str) -> None:
    """``work_dir`` if given, else the config's own, else ``work_dirs/<config's name>`` in the project."""
    cfg.work_dir = str(work_dir or cfg.get('work_dir') or PROJECT_ROOT / 'work_dirs' / Path(config_path).stem)


def set_test_time_augmentation(cfg: Config) -> None:
    """Let the model predict on several views of each image: those of the config's ``tta_model``."""
    cfg.model = {'type': 'CellTTAModel', **cfg.get('tta_model', {}), 'module': cfg.model}
