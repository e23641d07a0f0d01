"""What a two-stage detector sees in boxes that are given, and the classifier that tools/teach.py puts on it."""

import numpy as np
import torch
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor, nn

from cellseg_mm.utils import UserError

from .bbox_heads import naming_features
from .detector_config import set_num_classes

TEACHABLE = ('OneClassBBoxHead', 'TaughtBBoxHead')


def check_teachable(model: dict, path: str) -> None:
    """Refuse a detector whose boxes or masks depend on the class.

    Args:
        model (dict): Its config.
        path (str): Its file, for messages.

    Raises:
        UserError: If they do, or the detector has no such parts.
    """
    head = model.get('roi_head') or {}
    box, mask = head.get('bbox_head') or {}, head.get('mask_head') or {}
    if (
        not isinstance(box, dict)
        or box.get('type') not in TEACHABLE
        or not box.get('reg_class_agnostic')
        or not mask.get('class_agnostic')
    ):
        raise UserError(
            f'{path}: its boxes or masks depend on the class, so it cannot be taught others; take a shipped model, or '
            'train configs/consep/maskrcnn_lite0_fpn.py'
        )


def embed_boxes(detector: nn.Module, levels: tuple, boxes: Tensor) -> Tensor:
    """What a classifier of cells sees in each box, see :func:`naming_features`.

    Args:
        detector (Module): One that :func:`check_teachable` takes.
        levels (tuple[Tensor]): Its feature maps of one image.
        boxes (Tensor): (N, 4) x1, y1, x2, y2 in px of its input.

    Returns:
        Tensor: (N, D) float32.
    """
    pooled = _pool(detector, levels, boxes)
    return naming_features(detector.roi_head.bbox_head.embed(pooled), pooled)


def feature_size(detector: nn.Module) -> int:
    """D of :func:`embed_boxes`."""
    head = detector.roi_head.bbox_head
    return head.cls_last_dim + head.in_channels


def cells_in_boxes(detector: nn.Module, levels: tuple, boxes: Tensor, meta: dict) -> InstanceData:
    """The cells that the detector sees in boxes, whatever it would have found by itself.

    Args:
        detector (Module): As above.
        levels (tuple[Tensor]): As above.
        boxes (Tensor): As above.
        meta (dict): Of the image: ``ori_shape``, ``img_shape`` and ``scale_factor``.

    Returns:
        InstanceData: ``labels`` (N,) and ``masks``, bitmaps or codes at the image's own size.
    """
    labels = detector.roi_head.bbox_head(_pool(detector, levels, boxes))[0][:, :-1].argmax(dim=1)
    drawn = InstanceData(bboxes=boxes, labels=labels, scores=torch.ones(len(boxes), device=boxes.device))
    return detector.roi_head.predict_mask(levels, [meta], [drawn], rescale=True)[0]


def _pool(detector: nn.Module, levels: tuple, boxes: Tensor) -> Tensor:
    """(N, C, 7, 7) RoI features."""
    extractor = detector.roi_head.bbox_roi_extractor
    return extractor(levels[: extractor.num_inputs], bbox2roi([boxes]))


def class_layer(model: dict, state_dict: dict, num_classes: int) -> tuple:
    """The layer of a checkpoint that names cells: weights (C, D) and biases (C,), float32, without the background's.

    That of a detector that was not taught sees the first D features of :func:`naming_features` alone.

    Args:
        model (dict): The detector's config.
        state_dict (dict[str, Tensor]): Its weights.
        num_classes (int): C.
    """
    layer = 'fc_taught' if model['roi_head']['bbox_head']['type'] == 'TaughtBBoxHead' else 'fc_cls'
    return tuple(
        state_dict[f'roi_head.bbox_head.{layer}.{name}'].float().numpy()[:num_classes] for name in ('weight', 'bias')
    )


def put_class_layer(model: dict, state_dict: dict, weights: np.ndarray, biases: np.ndarray) -> None:
    """Let a checkpoint name cells by another layer, see :class:`TaughtBBoxHead`.

    Args:
        model (dict): The detector's config, changed in place.
        state_dict (dict[str, Tensor]): Its weights; two are added or replaced.
        weights (ndarray): (K, D) float32.
        biases (ndarray): (K,) float32.
    """
    head = model['roi_head']['bbox_head']
    detector_classes = head.get('detector_classes', head['num_classes'])
    set_num_classes(model, len(biases))
    head.update(type='TaughtBBoxHead', detector_classes=detector_classes)
    state_dict['roi_head.bbox_head.fc_taught.weight'] = torch.from_numpy(weights)
    state_dict['roi_head.bbox_head.fc_taught.bias'] = torch.from_numpy(biases)
