"""The facts of a prepared set (normalisation, classes, channel order, pixel size), and where a config holds them.

The config files do not hold them: they must load without data, and a config that reads files cannot be dumped.
"""

from pathlib import Path

from mmengine.config import Config

from cellseg_mm.datasets.source_state import stale_source
from cellseg_mm.images import is_same_size
from cellseg_mm.models.detector_config import normalisation, set_normalisation, set_num_classes
from cellseg_mm.utils import (
    PROJECT_ROOT,
    UserError,
    evaluators,
    inner_dataset_configs,
    parse_config_text,
    read_json,
    scored_dataset,
)
from cellseg_mm.visualization.colors import class_colors
from cellseg_mm.weights import shipped_pixel_size

PREPARED = 'prepared data come from tools/prepare_data.py'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def set_data_root(cfg: Config) -> Path:
    """Make the config's ``data_root`` absolute wherever it stands: in dataloaders and evaluators.

    A relative path is resolved from the current directory, then from the project's root. A training set with
    ``unknown_class`` keeps its own root: it lends its cells, not its classes or normalisation.

    Returns:
        Path: The prepared set.

    Raises:
        UserError: If a folder holds no prepared set, or the data sets name several.
    """
    _check_one_root(cfg)
    root = _prepared_set(cfg.data_root, 'data_root')
    cfg.data_root = f'{root}/'
    for loader in LOADERS:
        for dataset in inner_dataset_configs(cfg[loader].dataset):
            if dataset.get('unknown_class'):
                dataset.data_root = f'{_prepared_set(dataset.data_root, "train_dataloader...data_root")}/'
            else:
                dataset.data_root = cfg.data_root
    for split in ('val', 'test'):
        for evaluator in evaluators(cfg[f'{split}_evaluator']):
            if 'ann_file' in evaluator:
                evaluator.ann_file = str(root / scored_dataset(cfg[f'{split}_dataloader'].dataset).ann_file)
    return root


def _check_one_root(cfg: Config) -> None:
    """Refuse data sets of several roots, of which all but ``data_root`` would be left out without a word."""
    roots = {}
    for loader in LOADERS:
        for dataset in inner_dataset_configs(cfg[loader].dataset):
            if dataset.get('data_root') and not dataset.get('unknown_class'):
                roots.setdefault(Path(str(dataset.data_root)), loader)
    if len(roots) > 1:
        (one, first), (other, second), *_ = roots.items()
        raise UserError(
            f'{first} has the data_root {one}, {second} has {other}, but a run has one prepared data set: change '
            'data_root alone (--cfg-options data_root=FOLDER); to train on two sets join them by tools/prepare_data.py '
            'or give one of them unknown_class=True'
        )


def _prepared_set(given: object, key: str) -> Path:
    """The absolute path of a prepared set."""
    given = Path(str(given))  # --cfg-options reads a folder named 2024 as a number
    root = next((base for base in (Path.cwd() / given, PROJECT_ROOT / given) if _is_prepared(base)), None)
    if root is None:
        raise UserError(
            f'{given}: no prepared data set there; make one with `python tools/prepare_data.py SOURCE --out {given}`, '
            f'or name its folder with --cfg-options {key}=FOLDER'
        )
    return root


def _is_prepared(root: Path) -> bool:
    return (root / 'statistics.json').is_file()


def fill_from_prepared_data(cfg: Config) -> None:
    """Point the config to its prepared set, and put in the set's normalisation, classes, channel order and
    pixel size.

    Prints a warning if the source of the set has changed since.

    Raises:
        UserError: If the folder holds no prepared set.
    """
    root = set_data_root(cfg)
    stale = stale_source(root)
    if stale:
        print(f'warning: {stale}', flush=True)
    statistics = read_json(root / 'statistics.json', PREPARED)
    set_data_facts(cfg, statistics['mean'], statistics['std'], statistics['classes'])
    cfg.channel_order = statistics['channel_order']  # of the source's files; prepared images are true RGB
    cfg.pixel_size = statistics.get('pixel_size')  # micrometres a px; None if unknown, as in older sets


def set_data_facts(cfg: Config, mean: list, std: list, classes: list) -> None:
    """Put the normalisation and the classes of a prepared set where the config needs them.

    Args:
        cfg (Config): Changed in place.
        mean (list[float]): Means of R, G and B, 0..255.
        std (list[float]): Standard deviations of R, G and B.
        classes (list[str]): Names, in the order of the labels.
    """
    set_normalisation(cfg.model, mean, std)
    cfg.num_classes = len(classes)
    set_num_classes(cfg.model, len(classes))
    for loader in LOADERS:
        for dataset in inner_dataset_configs(cfg[loader].dataset):
            dataset.metainfo = dict(classes=tuple(classes), palette=class_colors(len(classes)))


def checkpoint_data_facts(checkpoint: dict, path: str) -> dict:
    """The arguments of :func:`set_data_facts` from the checkpoint's own training.

    Raises:
        UserError: If the checkpoint holds no config with normalisation and classes.
    """
    try:
        meta = checkpoint['meta']
        mean, std = normalisation(parse_config_text(meta['cfg'])['model'])
        facts = dict(mean=mean, std=std, classes=list(meta['dataset_meta']['classes']))
    except (KeyError, TypeError, ValueError, SyntaxError) as error:
        raise UserError(f'{path}: carries no config of tools/train.py ({error!r})') from error
    if facts['mean'] is None:
        raise UserError(f'{path}: its config has no mean and std; it was not trained by tools/train.py')
    return facts


def checkpoint_channel_order(checkpoint: dict, path: str) -> str:
    """The channel order, ``'rgb'`` or ``'bgr'``, of the source files of the checkpoint's training set.

    Raises:
        UserError: If the checkpoint's config does not say it, as in older versions.
    """
    order = parse_config_text(checkpoint['meta']['cfg']).get('channel_order')
    if order not in ('rgb', 'bgr'):
        raise UserError(f"{path}: does not say its training files' channel order; give --channel-order rgb or bgr")
    return order


def checkpoint_pixel_size(checkpoint: dict, path: str) -> float | None:
    """Micrometres a px of the checkpoint's training images; None if unknown, as for other programs' checkpoints."""
    try:
        stated = parse_config_text(checkpoint['meta']['cfg']).get('pixel_size')
    except (KeyError, TypeError, ValueError, SyntaxError):
        stated = None
    return stated or shipped_pixel_size(path)


def warn_of_other_pixel_size(root: Path, checkpoint: dict, path: str) -> None:
    """Print a warning if the images of a prepared set and the checkpoint's training images differ in pixel size."""
    own = read_json(root / 'statistics.json', PREPARED).get('pixel_size')
    training = checkpoint_pixel_size(checkpoint, path)
    if own and training and not is_same_size(own, training):
        print(
            f'warning: {root}: its images have {own:.4g} um a px, the training images of {path} had {training:.4g}',
            flush=True,
        )


def check_test_labels(cfg: Config, root: Path) -> bool:
    """Whether the test split has labels to score against.

    Raises:
        UserError: If it has no images, or its classes differ from those of the config, which
            :func:`set_data_facts` has filled in.
    """
    dataset = scored_dataset(cfg.test_dataloader.dataset)
    path = root / dataset.ann_file
    content = read_json(path, PREPARED)
    if not content['images']:
        raise UserError(
            f'{path}: lists no image; prepare the data with test images in a folder named test, or score the '
            'validation images: --cfg-options test_dataloader.dataset.ann_file=annotations/val.json'
        )
    found, expected = [entry['name'] for entry in content['categories']], dataset.metainfo.classes
    if list(expected) != found:
        raise UserError(
            f'{path}: its classes are {", ".join(found)}, but the checkpoint predicts {", ".join(expected)}; prepare '
            'the data with the same --classes as for training'
        )
    return bool(content['annotations'])
