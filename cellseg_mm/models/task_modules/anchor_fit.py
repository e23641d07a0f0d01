"""How well an anchor generator's anchors can match given boxes, without generating all anchors."""

import torch
from torch import Tensor


def best_anchor_iou(boxes: Tensor, base_anchors: list, strides: list, featmap_sizes: list) -> Tensor:
    """Best IoU of each box with any anchor of any level.

    The IoU of two boxes of fixed sizes falls with the distance of their centres along either axis. So on each level
    only the anchor position nearest to a box counts: the cost is boxes x shapes, not boxes x anchors.

    Args:
        boxes (Tensor): (N, 4) float [x1, y1, x2, y2] in px of the network's input.
        base_anchors (list[Tensor]): For each level, (A, 4) anchors at the map's first position.
        strides (list[tuple]): (x, y) strides of each level in px.
        featmap_sizes (list[tuple]): (H, W) of each level's map.

    Returns:
        Tensor: (N,) float32.

    Examples:
        Anchors of 8x8 px at every fourth pixel. One equals the first box, the second box is half as wide as one:

        >>> boxes = torch.tensor([[4.0, 8, 12, 16], [8, 0, 12, 8]])
        >>> best_anchor_iou(boxes, [torch.tensor([[0.0, 0, 8, 8]])], [(4, 4)], [(5, 5)]).tolist()
        [1.0, 0.5]
    """
    best = boxes.new_zeros(len(boxes))
    for anchors, stride, (height, width) in zip(base_anchors, strides, featmap_sizes, strict=True):
        stride = boxes.new_tensor(stride)
        last = boxes.new_tensor([width - 1, height - 1])
        offset = (boxes[:, None, :2] + boxes[:, None, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2
        shift = torch.minimum((offset / stride).round().clamp(min=0), last) * stride
        low = torch.maximum(boxes[:, None, :2], anchors[:, :2] + shift)
        high = torch.minimum(boxes[:, None, 2:], anchors[:, 2:] + shift)
        overlap = (high - low).clamp(min=0).prod(dim=2)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)[:, None] + (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)
        best = torch.maximum(best, (overlap / (area - overlap)).amax(dim=1))
    return best
