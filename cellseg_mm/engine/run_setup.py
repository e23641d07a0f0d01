"""What turns a config into a run: the prepared set's numbers, the weights to start from.

The configs hold none of it, for they must load without data, and a config that reads files cannot be dumped.
"""

import os
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

from cellseg_mm.datasets.source_state import stale_source
from cellseg_mm.models import bare_detector
from cellseg_mm.utils import (
    UserError,
    inner_dataset_configs,
    load_config,
    parse_config_text,
    read_json,
    scored_dataset,
)
from cellseg_mm.visualization.draw import class_colors

from .checkpoint import fetch, read_checkpoint

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PREPARED = 'prepared data come from tools/prepare_data.py'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def training_config(
    config: str,
    options: dict | None = None,
    work_dir: str | None = None,
    seed: int | None = None,
    from_scratch: bool = False,
    backbone_weights: str | None = None,
    load_from: str | None = None,
) -> Config:
    """The whole config of a training run, ready for a Runner but for
    :func:`cellseg_mm.engine.precision.fit_precision_to_device`.

    Args:
        config (str): A config file.
        options (dict | None): Dotted keys to change, ``--cfg-options``.
        work_dir (str | None): See :func:`set_work_dir`.
        seed (int | None): In place of the config's.
        from_scratch (bool): See :func:`train_from_scratch`.
        backbone_weights (str | None): See :func:`use_backbone_weights`.
        load_from (str | None): See :func:`start_from_checkpoint`.

    Raises:
        UserError: If the config, the prepared set or a file of weights is missing, the config is none of this project,
            or the seed is none.
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
    return cfg


def _check_project(cfg: Config, path: str) -> None:
    """Refuse a config that builds on none of this project's, such as MMDetection's own; one may import other modules,
    or train on another kind of data set."""
    imports = (cfg.get('custom_imports') or {}).get('imports', [])
    datasets = inner_dataset_configs(cfg.train_dataloader.dataset) if 'train_dataloader' in cfg else []
    if 'cellseg_mm' not in imports and 'CellDataset' not in [dataset.get('type') for dataset in datasets]:
        raise UserError(f'{path}: is no config of this project; build on one in configs/, see README.md')


def set_work_dir(cfg: Config, work_dir: str | None, config_path: str) -> None:
    """``work_dir`` if given, else the config's own, else ``work_dirs/<config's name>`` in the project."""
    cfg.work_dir = str(work_dir or cfg.get('work_dir') or PROJECT_ROOT / 'work_dirs' / Path(config_path).stem)


def set_data_root(cfg: Config) -> Path:
    """Make the config's ``data_root`` absolute wherever it stands: dataloaders and evaluators.

    A relative one is looked for from the current directory, then from the project's root.

    Returns:
        Path: The prepared set.

    Raises:
        UserError: If there is no prepared set.
    """
    given = Path(str(cfg.data_root))  # a folder 2024 of --cfg-options is a number
    root = next((base for base in (Path.cwd() / given, PROJECT_ROOT / given) if _is_prepared(base)), None)
    if root is None:
        raise UserError(
            f'{given}: no prepared data there. Make it by `python tools/prepare_data.py SOURCE --out {given}`, or '
            'point to it by --cfg-options data_root=FOLDER'
        )
    cfg.data_root = f'{root}/'
    for loader in LOADERS:
        for dataset in inner_dataset_configs(cfg[loader].dataset):
            dataset.data_root = cfg.data_root
    for split in ('val', 'test'):
        for evaluator in evaluators(cfg[f'{split}_evaluator']):
            if 'ann_file' in evaluator:
                evaluator.ann_file = str(root / scored_dataset(cfg[f'{split}_dataloader'].dataset).ann_file)
    return root


def evaluators(value: dict | list) -> list:
    """The metrics of an evaluator's config, which may be one metric or a list of them."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _is_prepared(root: Path) -> bool:
    return (root / 'statistics.json').is_file()


def fill_from_prepared_data(cfg: Config) -> None:
    """Point the config to its prepared set and put in the set's normalisation, classes and files' channel order.

    A set whose source has changed since is told.

    Raises:
        UserError: If there is no prepared set.
    """
    root = set_data_root(cfg)
    stale = stale_source(root)
    if stale:
        print(f'warning: {stale}', flush=True)
    statistics = read_json(root / 'statistics.json', PREPARED)
    set_data_facts(cfg, statistics['mean'], statistics['std'], statistics['classes'])
    cfg.channel_order = statistics['channel_order']  # of the source's files; what is prepared is true RGB


def set_data_facts(cfg: Config, mean: list, std: list, classes: list) -> None:
    """Put the normalisation and the classes of a prepared set where the config needs them.

    Args:
        cfg (Config): Changed in place.
        mean (list[float]): Of R, G and B, 0..255.
        std (list[float]): Likewise.
        classes (list[str]): Names, in the order of the labels.
    """
    cfg.model.data_preprocessor.mean = list(mean)
    cfg.model.data_preprocessor.std = list(std)
    cfg.num_classes = len(classes)
    _set_everywhere(cfg.model, 'num_classes', len(classes))
    for loader in LOADERS:
        for dataset in inner_dataset_configs(cfg[loader].dataset):
            dataset.metainfo = dict(classes=tuple(classes), palette=class_colors(len(classes)))


def _set_everywhere(value: object, key: str, new: object) -> None:
    if isinstance(value, dict):
        if key in value:
            value[key] = new
        for entry in value.values():
            _set_everywhere(entry, key, new)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _set_everywhere(entry, key, new)


def checkpoint_data_facts(checkpoint: dict, path: str) -> dict:
    """Arguments for :func:`set_data_facts` as the checkpoint's own training had them.

    Raises:
        UserError: If the checkpoint carries no config with normalisation and classes.
    """
    try:
        meta = checkpoint['meta']
        preprocessor = parse_config_text(meta['cfg'])['model']['data_preprocessor']
        facts = dict(mean=preprocessor['mean'], std=preprocessor['std'], classes=list(meta['dataset_meta']['classes']))
    except (KeyError, TypeError, ValueError, SyntaxError) as error:
        raise UserError(f'{path}: carries no config of tools/train.py ({error!r})') from error
    if facts['mean'] is None:
        raise UserError(f'{path}: its config has no mean and std; it was not trained by tools/train.py')
    return facts


def checkpoint_channel_order(checkpoint: dict, path: str) -> str:
    """The channel order, ``'rgb'`` or ``'bgr'``, of the files that the checkpoint's training set was prepared from.

    Raises:
        UserError: If the checkpoint's config does not say it, as those of older versions do not.
    """
    order = parse_config_text(checkpoint['meta']['cfg']).get('channel_order')
    if order not in ('rgb', 'bgr'):
        raise UserError(f"{path}: does not say its training files' channel order; give --channel-order rgb or bgr")
    return order


def operating_threshold(checkpoint: dict, score_thr: float | None = None) -> tuple:
    """The score threshold that validation chose, unless another is given.

    Args:
        checkpoint (dict): Of :func:`read_checkpoint`; :class:`OperatingPointHook` keeps the threshold in it.
        score_thr (float | None): Another one, 0..1.

    Returns:
        tuple: The threshold, and in words where it is from.
    """
    point = checkpoint.get('meta', {}).get('operating_point')
    if score_thr is not None:
        return score_thr, 'as given'
    if point:
        return point['score_thr'], f'chosen by the validation of epoch {point["epoch"]}'
    return 0.5, 'the checkpoint carries none, for no validation came before it'


def set_operating_threshold(cfg: Config, checkpoint: dict, score_thr: float | None = None) -> None:
    """Test and draw at the score threshold that validation chose, and say which.

    Args:
        cfg (Config): Changed in place.
        checkpoint (dict): See :func:`operating_threshold`.
        score_thr (float | None): Likewise.

    Raises:
        UserError: If the model itself returns nothing as low as the given one.
    """
    if score_thr is not None:
        lowest = ((cfg.model.get('test_cfg') or {}).get('rcnn') or {}).get('score_thr', 0)
        if score_thr < lowest:
            raise UserError(
                f'--score-thr {score_thr:g}: the model returns no detection below {lowest:g}; add to --cfg-options: '
                f'model.test_cfg.rcnn.score_thr={score_thr:g}'
            )
    score_thr, reason = operating_threshold(checkpoint, score_thr)
    print(f'score threshold of PQ, AJI, Dice, F1 and pictures: {score_thr:.2f} ({reason})', flush=True)
    for evaluator in evaluators(cfg.test_evaluator):
        if evaluator.type == 'CellMetric':
            evaluator.score_thr = score_thr
    cfg.default_hooks.visualization.score_thr = score_thr


def set_test_time_augmentation(cfg: Config) -> None:
    """Have the model look at several views of each image: those of the config's ``tta_model``."""
    cfg.model = {'type': 'CellTTAModel', **cfg.get('tta_model', {}), 'module': cfg.model}


def check_weights_fit(model: torch.nn.Module, checkpoint: dict, config_path: str, path: str) -> None:
    """Refuse a checkpoint of another model, where mmengine would go on with random or fewer weights and a warning.

    Raises:
        UserError: Naming the first parameter that is missing, left over or of another shape.
    """
    model = bare_detector(model)
    given, expected = checkpoint['state_dict'], model.state_dict()
    surplus = next((name for name in given if name not in expected), None)
    if surplus:
        raise UserError(f'{path}: is not of the model in {config_path}, which has no {surplus}')
    for name, value in expected.items():
        shape = tuple(given[name].shape) if name in given else 'absent'
        if shape != tuple(value.shape):
            raise UserError(
                f'{path}: is not of the model in {config_path}: {name} is {shape} in the checkpoint, '
                f'{tuple(value.shape)} in the model'
            )


def check_test_labels(cfg: Config, root: Path) -> bool:
    """Whether the test split has labels to score against.

    Raises:
        UserError: If it has no image, or its classes are not those that the config, filled by :func:`set_data_facts`,
            predicts.
    """
    dataset = scored_dataset(cfg.test_dataloader.dataset)
    path = root / dataset.ann_file
    content = read_json(path, PREPARED)
    if not content['images']:
        raise UserError(
            f'{path}: lists no image; prepare the data with test images in a folder named test, or score validation: '
            '--cfg-options test_dataloader.dataset.ann_file=annotations/val.json'
        )
    found, expected = [entry['name'] for entry in content['categories']], dataset.metainfo.classes
    if list(expected) != found:
        raise UserError(
            f'{path}: its classes are {", ".join(found)}, the checkpoint predicts {", ".join(expected)}; prepare the '
            'data with --classes as for training'
        )
    return bool(content['annotations'])


def train_from_scratch(cfg: Config) -> None:
    """No pretrained weights, also none to fine-tune, nothing frozen, BatchNorm trains; alike for every row of the
    ablation."""
    cfg.load_from = None
    cfg.model.backbone.update(init_cfg=None, frozen_stages=-1, norm_eval=False)
    if 'norm_cfg' in cfg.model.backbone:
        cfg.model.backbone.norm_cfg.requires_grad = True


def use_backbone_weights(cfg: Config, path: str) -> None:
    """Start the backbone from a file of ImageNet weights, and the rest from nothing.

    Raises:
        UserError: If there is no such file.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: no such file of backbone weights')
    cfg.load_from = None
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(Path(path).absolute()))


def start_from_checkpoint(cfg: Config, path: str) -> None:
    """Fine-tune: all weights from a checkpoint, so that the backbone's own are not fetched.

    Where its classes are not those of the data, also where they are as many, the weights that belong to single classes
    are not taken over: see :class:`NewClassHeadsHook`.

    Raises:
        UserError: See :func:`read_checkpoint`.
    """
    trained_on = read_checkpoint(path).get('meta', {}).get('dataset_meta', {}).get('classes')
    classes = (next(inner_dataset_configs(cfg.train_dataloader.dataset)).get('metainfo') or {}).get('classes')
    if trained_on and classes and list(trained_on) != list(classes):
        print(f'{path}: was trained on {", ".join(trained_on)}; heads of other classes start anew', flush=True)
        hook = dict(type='NewClassHeadsHook', weights=class_weights(cfg.model, len(classes)))
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
    cfg.load_from = str(path)
    cfg.model.backbone.init_cfg = None


def class_weights(model: Config, num_classes: int) -> list:
    """Names of the weights of a model, by its config, that belong to single classes: with one class more they grow."""
    shapes = []
    for count in (num_classes, num_classes + 1):
        copy = deepcopy(model)
        _set_everywhere(copy, 'num_classes', count)
        with DefaultScope.overwrite_default_scope('mmdet'):
            shapes.append({name: value.shape for name, value in MODELS.build(copy).state_dict().items()})
    return [name for name, shape in shapes[0].items() if shape != shapes[1].get(name)]


def check_same_classes(cfg: Config, checkpoint: dict, path: str) -> None:
    """Refuse to go on with a run whose classes are not those of the data.

    Raises:
        UserError: Naming both.
    """
    trained_on = checkpoint.get('meta', {}).get('dataset_meta', {}).get('classes')
    classes = (next(inner_dataset_configs(cfg.train_dataloader.dataset)).get('metainfo') or {}).get('classes')
    if trained_on and classes and list(trained_on) != list(classes):
        raise UserError(
            f'{path}: was trained on {", ".join(trained_on)}, the data has {", ".join(classes)}; prepare it with '
            '--classes as for that run, or fine-tune by --load-from'
        )


def check_starting_weights(model: torch.nn.Module, path: str, left_out: Sequence = ()) -> None:
    """Refuse a checkpoint of which the model takes nothing over, where mmengine would train random weights; else say
    how much it takes. Heads of other classes may start anew.

    Args:
        model (Module): Of the run.
        path (str): ``load_from``: a file or an address.
        left_out (Sequence[str]): Names of weights that are not taken over.

    Raises:
        UserError: If no weight has the name and the shape of one in the model; see :func:`read_checkpoint`.
    """
    model = bare_detector(model)
    content = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    given, expected = content.get('state_dict', content), model.state_dict()
    shapes = {name.removeprefix('module.'): getattr(value, 'shape', None) for name, value in given.items()}
    taken = sum(shapes.get(name) == value.shape for name, value in expected.items() if name not in left_out)
    if not taken:
        raise UserError(
            f"{path}: none of its {len(given)} weights has the name and the shape of one of the model's; a detector of "
            'this project is needed, or for weights of a backbone alone --backbone-weights FILE'
        )
    print(f"{path}: {taken} of the model's {len(expected)} weights are taken over", flush=True)


def fetch_backbone_weights(cfg: Config) -> None:
    """Download pretrained weights into torch's cache, where the model then finds them.

    Call it when the processes of a launcher know each other, which with CUDA is from ``Runner.from_cfg`` on.

    Raises:
        UserError: If that fails, naming the ways around it.
    """
    init_cfg = cfg.model.backbone.get('init_cfg')
    url = init_cfg.get('checkpoint', '') if isinstance(init_cfg, dict) else ''
    if not url.startswith(('http://', 'https://')):
        return
    fetch(url)


def set_launcher(cfg: Config, launcher: str, local_rank: int) -> None:
    """As MMDetection's tools do; without CUDA, processes talk by gloo.

    mmengine assumes a CUDA device in two places, both of which are left to us then: it selects the device when it
    starts the process group, and names it when it wraps the model.

    Raises:
        UserError: If no launcher started the process, or one that needs CUDA where there is none.
    """
    cfg.launcher = launcher
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UserError('--launcher pytorch: start the command by torchrun, see docs/distributed.md')
    if launcher == 'none' or torch.cuda.is_available():
        return
    if launcher != 'pytorch':
        raise UserError(f'--launcher {launcher}: needs CUDA devices; without, let torchrun start the processes')
    torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
