"""Predicted masks into the image, as runs: each mask is computed only in a window around its box."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cellseg_mm.structures import Runs

# Windows are sampled together up to this many px in all.
CHUNK_PX = 2**21


def paste_runs(probabilities: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Runs:
    """Resample N masks into their boxes, and keep the pixels that reach the threshold.

    The values equal those of mmdet's ``_do_paste_mask`` bit by bit: the same operations in the same precision on each
    pixel. On the CPU that function samples the box and one px around it, elsewhere the whole image. A mask fades to a
    half at the edge of its box and to zero half of a mask's px beyond it, so below a threshold of a half pixels outside
    the box count too; away from the CPU windows are wide enough to hold them. Boxes without an area differ there: they
    have a small window, while ``_do_paste_mask`` draws stripes over the whole image.

    Args:
        probabilities (Tensor): (N, h, w) 0..1.
        boxes (Tensor): (N, 4) [x1, y1, x2, y2) in px of the image.
        height (int): Height of the image in px.
        width (int): Width of the image in px.
        threshold (float): The least probability inside a mask, above 0.

    Returns:
        Runs: The runs of the N instances.

    Raises:
        ValueError: For a threshold of 0 or less, which pixels outside of every window would reach.

    Examples:
        A mask of 1x2 px, whose right px is inside, in a box of 2 rows and 4 columns at x 1, y 0 of an image of height
        3. Of the box columns 3 and 4 are inside, whose runs start at places 3 * 3 and 4 * 3:

        >>> runs = paste_runs(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[1.0, 0, 5, 2]]), 3, 6, 0.5)
        >>> [part.tolist() for part in runs]  # instance, start, length
        [[0, 0], [9, 12], [2, 2]]
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
        parts.append(window_runs(inside, chunk, begin[index], height))
    owner, start, length = np.concatenate([np.zeros((3, 0), np.int64), *parts], axis=1)
    order = np.argsort(owner, kind='stable')
    return Runs(owner[order], start[order], length[order])


def _chunks(sizes: np.ndarray) -> list:
    """Group windows of similar sizes, so that each group of more than one fills at most :data:`CHUNK_PX`.

    Args:
        sizes (ndarray): (N, 2) int64 width and height in px.

    Returns:
        list[ndarray]: int64 indices of each group, without the windows of no area.

    Examples:
        >>> [group.tolist() for group in _chunks(np.array([[9, 9], [0, 5], [2000, 900], [2000, 1000], [8, 8]]))]
        [[4, 0], [2], [3]]
    """
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
    """(n, H, W) masks at the pixel centres of their windows, as large as the largest one; zero outside their own."""
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


def window_runs(inside: Tensor, owners: np.ndarray, begin: Tensor, height: int) -> np.ndarray:
    """The vertical runs in windows, by instance and by place.

    Args:
        inside (Tensor): (n, H, W) bool.
        owners (ndarray): (n,) int64 instances of the windows.
        begin (Tensor): (n, 2) int64 x and y of the windows in the image.
        height (int): Height of the image in px.

    Returns:
        ndarray: (3, R) int64 instance, start and length.

    Examples:
        A window of 2 rows and 2 columns at (3, 1) of an image of height 5, for instance 7. Its first column holds a run
        of 2 px, its second one of 1 px:

        >>> inside = torch.tensor([[[True, False], [True, True]]])
        >>> window_runs(inside, np.array([7]), torch.tensor([[3, 1]]), 5).tolist()
        [[7, 7], [16, 22], [2, 1]]
    """
    columns = F.pad(inside.transpose(1, 2), (1, 1))  # (n, W, H + 2)
    edges = columns[..., 1:] != columns[..., :-1]
    window, column, row = (part.cpu().numpy() for part in edges.nonzero(as_tuple=True))
    begin = begin.cpu().numpy()
    places = (begin[window, 0] + column) * height + begin[window, 1] + row
    return np.stack([owners[window[::2]], places[::2], places[1::2] - places[::2]])
