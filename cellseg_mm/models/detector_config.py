"""What a detector's config keeps where: scores, numbers of instances, classes, anchors, colours, starting weights.

Each detector of MMDetection keeps them in places of its own. This module knows the places; hooks, tools, prediction
and test-time augmentation ask it, so that they work with any detector that predicts masks.
"""

import inspect
import re
import sys
from collections.abc import Iterator

import numpy as np
from mmdet.models.task_modules import AnchorGenerator
from mmdet.registry import MODELS, TASK_UTILS
from torch import nn

from cellseg_mm.utils import UserError
from cellseg_mm.utils.config import flatten, inner_dicts

# parts whose classes, scores and numbers are not those of the cells
OTHER_PARTS = ('backbone', 'rpn_head', 'rpn', 'rpn_proposal')
# least scores: of a detection; and, in SOLO's matrix NMS, of what it leaves
FLOORS = ('score_thr', 'filter_thr')
LIMITS = ('max_per_img', 'max_per_image')
CLASS_COUNTS = ('num_classes', 'num_things_classes')
OF_MASKS = re.compile(r'mask|panoptic|segm', re.IGNORECASE)


def check_detector(model: dict, path: str) -> None:
    """Refuse what is not a detector of instances that this module understands.

    A detector of boxes alone is one whose config names masks nowhere outside backbone, neck and preprocessor.

    Args:
        model (dict): A model's config.
        path (str): Its file, for messages.

    Raises:
        UserError: For a missing part, a detector of boxes alone, or no number of classes or of instances.
    """
    kind = model.get('type')
    missing = [key for key in ('type', 'backbone', 'data_preprocessor') if key not in model]
    if missing:
        raise UserError(f'{path}: model {kind} has no {missing[0]}; a detector of MMDetection is needed')
    heads = {key: value for key, value in model.items() if key not in ('backbone', 'neck', 'data_preprocessor')}
    if not any(OF_MASKS.search(f'{key} {value}') for key, value in flatten(heads)):
        raise UserError(f'{path}: {kind} predicts boxes without masks; choose a detector of instance segmentation')
    if not _class_heads(model):
        raise UserError(f'{path}: no part of model {kind} has num_classes; add it in a config, give that with --config')
    if not _limits(model):
        raise UserError(
            f'{path}: model.test_cfg of {kind} has no max_per_img, the most cells of an image; add it in a config, '
            'give that with --config'
        )


def score_floors(model: dict) -> dict:
    """The least scores that a detector returns.

    Args:
        model (dict): Its config.

    Returns:
        dict[str, float]: By dotted key below ``model``; empty if the detector returns detections of any score.
    """
    return {key: value for key, value in _test_options(model) if key.rsplit('.', 1)[-1] in FLOORS}


def set_score_floor(model: dict, score: float) -> None:
    """Let a detector return the detections from a score up, if it has a least score.

    A detector without one returns more, and the caller drops them.

    Args:
        model (dict): Its config, changed in place.
        score (float): 0..1.
    """
    for key in score_floors(model):
        *parents, last = key.split('.')
        part = model
        for name in parents:
            part = part[name]
        # mmdet keeps scores above its threshold; here a score equal to it counts too
        part[last] = float(np.nextafter(np.float32(score), np.float32(-1)))


def most_instances(model: dict) -> int:
    """The most instances of an image that a detector returns.

    Args:
        model (dict): Its config; ``test_cfg`` is enough.
    """
    return max(value if value > 0 else sys.maxsize for value in _limits(model))  # mmdet: -1 for all


def _limits(model: dict) -> list:
    return [value for key, value in _test_options(model) if key.rsplit('.', 1)[-1] in LIMITS]


def set_num_classes(model: dict, count: int) -> None:
    """Put the number of classes wherever a detector's heads keep it, and fit the class weights of losses to it.

    Panoptic heads get as many things and no stuff. Class weights, such as Mask2Former's, have an entry for each class
    and may have one more for the background.

    Args:
        model (dict): The detector's config, changed in place.
        count (int): Number of classes.

    Raises:
        UserError: If the classes of a loss have different weights and are not as many.
    """
    for head in _class_heads(model):
        before = head.get('num_classes') or head['num_things_classes'] + head.get('num_stuff_classes', 0)
        for value in head.values():
            if isinstance(value, dict) and isinstance(value.get('class_weight'), (list, tuple)):
                value['class_weight'] = _fit_class_weights(list(value['class_weight']), before, count)
        head.update({key: count for key in CLASS_COUNTS if key in head})
        if 'num_stuff_classes' in head:
            head['num_stuff_classes'] = 0


def _class_heads(model: dict) -> list:
    """The parts of a detector's config that name a number of classes."""
    parts = [part for name, value in model.items() if name not in OTHER_PARTS for part in inner_dicts(value)]
    return [part for part in parts if any(key in part for key in CLASS_COUNTS)]


def _fit_class_weights(weights: list, before: int, count: int) -> list:
    """Weights of ``count`` classes and of the background, if it has one, from those of ``before`` classes.

    Examples:
        >>> _fit_class_weights([1.0, 1.0, 1.0, 0.1], 3, 2)
        [1.0, 1.0, 0.1]
    """
    of_classes, background = weights[:before], weights[before:]
    if len(of_classes) == before and len(background) <= 1:
        if before == count:
            return weights
        if len(set(of_classes)) == 1:
            return of_classes[:1] * count + background
    raise UserError(
        f'class_weight: {len(weights)} weights in a config of {before} classes, but the data have {count}; give '
        f'{count} weights, and one for the background if the loss has it'
    )


def anchor_generator(detector: nn.Module) -> AnchorGenerator | None:
    """The anchors of a detector; None for one without, such as RTMDet, SOLO or Mask2Former."""
    generators = (getattr(module, 'prior_generator', None) for module in detector.modules())
    return next((generator for generator in generators if isinstance(generator, AnchorGenerator)), None)


def build_anchor_generator(model: dict) -> AnchorGenerator | None:
    """The same from the detector's config, without building the detector."""
    configs = (part['anchor_generator'] for part in inner_dicts(model) if 'anchor_generator' in part)
    generators = map(TASK_UTILS.build, configs)
    return next((generator for generator in generators if isinstance(generator, AnchorGenerator)), None)


def set_normalisation(model: dict, mean: list, std: list) -> None:
    """Put means and standard deviations, of R, G and B in 0..255, into a detector's config in its order of channels."""
    preprocessor = model['data_preprocessor']
    order = 1 if preprocessor.get('bgr_to_rgb') else -1
    preprocessor.update(mean=list(mean)[::order], std=list(std)[::order])


def normalisation(model: dict) -> tuple:
    """Means and standard deviations, of R, G and B in 0..255, from a detector's config; None where it has none."""
    preprocessor = model['data_preprocessor']
    order = 1 if preprocessor.get('bgr_to_rgb') else -1
    values = preprocessor.get('mean'), preprocessor.get('std')
    return tuple(value if value is None else list(value)[::order] for value in values)


def backbone_weights(model: dict) -> str | None:
    """The file or address from which a detector's backbone starts, as its config says."""
    init_cfg = model['backbone'].get('init_cfg')
    return init_cfg.get('checkpoint') if isinstance(init_cfg, dict) else None


def forget_pretrained(model: dict) -> None:
    """Let no part of a detector load weights when it is initialised.

    Args:
        model (dict): Its config, changed in place.
    """
    model['backbone']['init_cfg'] = None
    for part in inner_dicts(model):
        if part.get('pretrained'):
            part['pretrained'] = None
        init_cfg = part.get('init_cfg')
        if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
            part['init_cfg'] = None


def train_all(model: dict) -> None:
    """Freeze no part of a detector, and let its BatchNorm train.

    Args:
        model (dict): Its config, changed in place.
    """
    backbone = model['backbone']
    for key, value in dict(frozen_stages=-1, norm_eval=False).items():
        if key in backbone or _takes(backbone['type'], key):  # ResNet's norm_eval is True unless the config says else
            backbone[key] = value
    for part in inner_dicts(model):
        if part.get('frozen_stages', -1) >= 0:
            part['frozen_stages'] = -1
        if part.get('requires_grad') is False:  # of a norm_cfg
            part['requires_grad'] = True


def _takes(kind: str | type, argument: str) -> bool:
    """Whether the constructor of a registered module names an argument, itself or in a class above it."""
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    classes = [each for each in inspect.getmro(found) if '__init__' in vars(each)] if inspect.isclass(found) else []
    return any(argument in inspect.signature(each.__init__).parameters for each in classes if each is not object)


def _test_options(model: dict) -> Iterator:
    """Dotted keys below ``test_cfg`` and their values, without those of the RPN."""
    for key, value in flatten(model.get('test_cfg') or {}, 'test_cfg'):
        if not any(part in OTHER_PARTS for part in key.split('.')):
            yield key, value
