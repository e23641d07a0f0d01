"""The weights that a run starts from, or is tested with."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

from cellseg_mm.models import bare_detector
from cellseg_mm.utils import UserError, inner_dataset_configs

from .checkpoint import fetch, read_checkpoint
from .data_facts import set_num_classes


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
        set_num_classes(copy, count)
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
