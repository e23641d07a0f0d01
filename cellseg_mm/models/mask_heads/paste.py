"""Predicted masks into the image, as runs: what they are in a window about each box is all that is ever computed."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cellseg_mm.structures import Runs

# Windows are sampled together as long as they have so many px in all.
CHUNK_PX = 2**21


def paste_runs(probabilities: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Runs:
    """Resample N masks into their boxes and keep what reaches the threshold.

    The values are those of mmdet's ``_do_paste_mask`` bit by bit: the same operations in the same precision on each
    pixel. On the CPU that function looks at the box and one px about it, elsewhere at the whole image. A mask fades to
    zero over half of one of its own px outside the box and to a half at its edge, so that with thresholds below a half
    pixels farther out count too; windows are as wide as that away from the CPU. Boxes without an area differ there:
    they have a small window, while ``_do_paste_mask`` draws stripes over the whole image.

    Args:
        probabilities (Tensor): (N, h, w) 0..1.
        boxes (Tensor): (N, 4) [x1, y1, x2, y2) in px of the image.
        height (int): Of the image, in px.
        width (int): Likewise.
        threshold (float): 0..1, included.

    Returns:
        Runs: Of the N instances.

    Raises:
        ValueError: For a threshold of 0 or less, which no window holds.
    """
    if not threshold > 0:
        raise ValueError(f'mask_thr_binary={threshold}: must be above 0')
    margin = torch.ones_like(boxes[:, :2])
    if boxes.device.type != 'cpu':
        mask_size = probabilities.new_tensor(probabilities.shape[:0:-1])
        margin = torch.clamp((0.5 * (boxes[:, 2:] - boxes[:, :2]) / mask_size).ceil(), min=1)
    limits = boxes.new_tensor([width, height])
    begin = torch.minimum((boxes[:, :2].floor() - margin).clamp(min=0), limits).to(torch.int64)
    end = torch.minimum(boxes[:, 2:].ceil() + margin, limits).to(torch.int64)
    sizes = (end - begin).clamp(min=0)

    parts = []
    for chunk in _chunks(sizes.cpu().numpy()):
        index = torch.from_numpy(chunk).to(boxes.device)
        inside = _sample(probabilities[index], boxes[index], begin[index], sizes[index]) >= threshold
        parts.append(_find_runs(inside, chunk, begin[index], height))
    owner, start, length = np.concatenate([np.zeros((3, 0), np.int64), *parts], axis=1)
    order = np.argsort(owner, kind='stable')
    return Runs(owner[order], start[order], length[order])


def _chunks(sizes: np.ndarray) -> list:
    """Indices of windows, (N, 2) in px, in groups of like sizes that fill :data:`CHUNK_PX` at most, if not alone."""
    order = np.argsort(sizes.prod(axis=1), kind='stable')
    order = order[sizes[order].prod(axis=1) > 0]
    groups, group, largest = [], [], np.zeros(2, np.int64)
    for index in order:
        grown = np.maximum(largest, sizes[index])
        if group and (len(group) + 1) * grown.prod() > CHUNK_PX:
            groups.append(np.array(group))
            group, grown = [], sizes[index]
        group.append(index)
        largest = grown
    return [*groups, np.array(group)] if group else groups


def _sample(probabilities: Tensor, boxes: Tensor, begin: Tensor, sizes: Tensor) -> Tensor:
    """Masks at the pixel centres of their windows, (n, H, W) of the largest window; zero outside the own one."""
    axes = []
    for axis in range(2):
        steps = torch.arange(int(sizes[:, axis].max()), device=boxes.device)
        centers = (begin[:, axis, None] + steps).to(torch.float32) + 0.5
        first, last = boxes[:, axis, None], boxes[:, 2 + axis, None]
        position = (centers - first) / (last - first) * 2 - 1
        position[torch.isinf(position)] = 0
        axes.append((position, steps < sizes[:, axis, None]))
    (x, x_inside), (y, y_inside) = axes
    shape = len(boxes), y.shape[1], x.shape[1]
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=3)
    values = F.grid_sample(probabilities[:, None].to(torch.float32), grid, align_corners=False)[:, 0]
    return values.masked_fill(~(y_inside[:, :, None] & x_inside[:, None, :]), 0)


def _find_runs(inside: Tensor, owners: np.ndarray, begin: Tensor, height: int) -> np.ndarray:
    """(3, R) int64: owner, start and length of the vertical runs in (n, H, W) windows, by instance and by place."""
    columns = F.pad(inside.transpose(1, 2), (1, 1))  # (n, W, H + 2)
    edges = columns[..., 1:] != columns[..., :-1]
    window, column, row = (part.cpu().numpy() for part in edges.nonzero(as_tuple=True))
    begin = begin.cpu().numpy()
    places = (begin[window, 0] + column) * height + begin[window, 1] + row
    return np.stack([owners[window[::2]], places[::2], places[1::2] - places[::2]])
