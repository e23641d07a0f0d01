"""The weights that a run starts from, or is tested with."""

import importlib.util
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

from cellseg_mm.models import bare_detector
from cellseg_mm.models.detector_config import backbone_weights, forget_pretrained, set_num_classes, train_all
from cellseg_mm.utils import UserError, inner_dataset_configs

from .checkpoint import fetch, read_checkpoint


def train_from_scratch(cfg: Config) -> None:
    """Train without pretrained weights: nothing is loaded or frozen, BatchNorm trains; the same for every row."""
    cfg.load_from = None
    forget_pretrained(cfg.model)
    train_all(cfg.model)


def use_backbone_weights(cfg: Config, path: str) -> None:
    """Start the backbone from a file of ImageNet weights, and the rest from random weights.

    Raises:
        UserError: If the file is missing.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: no such file of backbone weights')
    cfg.load_from = None
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(Path(path).absolute()))


def fetch_backbone_weights(cfg: Config) -> None:
    """Download pretrained weights into torch's cache, where the model then finds them.

    Call it after the process group has started; with CUDA that is after ``Runner.from_cfg``.

    Raises:
        UserError: If the download fails, with the ways around it; or if it needs torchvision.
    """
    url = backbone_weights(cfg.model) or ''
    if url.startswith('torchvision://') and not importlib.util.find_spec('torchvision'):
        raise UserError(
            f'{url}: needs torchvision, which is not installed; name the plain address of the weights in '
            'model.backbone.init_cfg.checkpoint, as configs/_base_/models/maskrcnn_r50.py does'
        )
    if url.startswith(('http://', 'https://')):
        fetch(url)


def start_from_checkpoint(cfg: Config, path: str) -> None:
    """Fine-tune: all weights come from a checkpoint, so the backbone's pretrained ones are not downloaded.

    If the checkpoint's classes are not those of the data, even if they are as many, the weights that belong to single
    classes are not loaded: see :class:`NewClassHeadsHook`.

    Raises:
        UserError: See :func:`read_checkpoint`.
    """
    trained_on, classes = _classes(cfg, read_checkpoint(path))
    if trained_on != classes:
        print(f'{path}: was trained on {", ".join(trained_on)}; heads for the new classes start anew', flush=True)
        hook = dict(type='NewClassHeadsHook', weights=class_weights(cfg.model, len(classes)))
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
    cfg.load_from = str(path)
    forget_pretrained(cfg.model)


def _classes(cfg: Config, checkpoint: dict) -> tuple:
    """The classes of a checkpoint and those of the training data; the same if either does not name its own."""
    trained_on = checkpoint.get('meta', {}).get('dataset_meta', {}).get('classes')
    classes = (next(inner_dataset_configs(cfg.train_dataloader.dataset)).get('metainfo') or {}).get('classes')
    return list(trained_on or classes or ()), list(classes or trained_on or ())


def class_weights(model: Config, num_classes: int) -> list:
    """Names of a model's weights that belong to single classes: their shapes change with the number of classes."""
    shapes = []
    for count in (num_classes, num_classes + 1):
        copy = deepcopy(model)
        set_num_classes(copy, count)
        with DefaultScope.overwrite_default_scope('mmdet'):
            shapes.append({name: value.shape for name, value in MODELS.build(copy).state_dict().items()})
    return [name for name, shape in shapes[0].items() if shape != shapes[1].get(name)]


def check_same_classes(cfg: Config, checkpoint: dict, path: str) -> None:
    """Refuse to resume a run whose classes are not those of the data.

    Raises:
        UserError: With the classes of both.
    """
    trained_on, classes = _classes(cfg, checkpoint)
    if trained_on != classes:
        raise UserError(
            f'{path}: was trained on {", ".join(trained_on)}, but the data have {", ".join(classes)}; prepare them '
            'with the same --classes as for that run, or fine-tune with --load-from'
        )


def check_starting_weights(model: torch.nn.Module, path: str, left_out: Sequence = ()) -> None:
    """Refuse a checkpoint that gives the model no weights, and print how many it gives.

    MMEngine would train on from random weights.

    Args:
        model (Module): The model of the run.
        path (str): ``load_from``: a file or an address.
        left_out (Sequence[str]): Names of weights that are not loaded, such as those of heads for new classes.

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
            f"{path}: none of its {len(given)} weights has the name and the shape of one of the model's; give a "
            'checkpoint of this project, or --backbone-weights FILE for the weights of a backbone'
        )
    print(f"{path}: {taken} of the model's {len(expected)} weights come from this file", flush=True)


def check_weights_fit(model: torch.nn.Module, checkpoint: dict, config_path: str, path: str) -> None:
    """Refuse a checkpoint of another model. MMEngine would warn, and go on with random or fewer weights.

    Raises:
        UserError: For the first weight that is missing, left over or of another shape.
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
