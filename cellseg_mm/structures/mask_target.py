"""RoIAlign of single instances, straight from id layers."""

import numpy as np
import torch
from mmcv.ops import roi_align

# The most px in all of the masks that are made on a device at once.
CHUNK_PX = 2**24


def instance_roi_align(
    layers: np.ndarray, layer_of: np.ndarray, ids: np.ndarray, boxes: np.ndarray, out_shape: tuple
) -> np.ndarray:
    """RoIAlign of each box on the 0/1 mask of its instance, without making that mask.

    The map is read at RoIAlign's sampling points and compared with the instance's id, so memory and time grow with the
    boxes, not with instances x image. The arithmetic is that of mmcv's CPU ``roi_align`` with scale 1, adaptive
    sampling and ``aligned=True``, float32 operation by operation, so that values at a rounding threshold agree too.

    Args:
        layers (ndarray): (L, H, W) integer id layers.
        layer_of (ndarray): (K,) layer in which the instance of each box lies.
        ids (ndarray): (K,) its id.
        boxes (ndarray): (K, 4) float32 [x1, y1, x2, y2].
        out_shape (tuple): (h, w) of a target.

    Returns:
        ndarray: (K, h, w) float32 in 0..1.

    The box of a square of 2 x 2 px, in its own place and a pixel to the right, at one value a pixel:

    >>> layers = np.zeros((1, 4, 5), np.int32)
    >>> layers[0, 1:3, 1:3] = 7
    >>> boxes = np.array([[1, 1, 3, 3], [2, 1, 4, 3]], np.float32)
    >>> instance_roi_align(layers, np.array([0, 0]), np.array([7, 7]), boxes, (2, 2))
    array([[[1., 1.],
            [1., 1.]],
    <BLANKLINE>
           [[1., 0.],
            [1., 0.]]], dtype=float32)
    """
    targets = np.zeros((len(boxes), *out_shape), np.float32)
    start = boxes[:, 1::-1] - np.float32(0.5)  # y before x from here on
    size = boxes[:, :1:-1] - np.float32(0.5) - start
    bins = size / np.array(out_shape, np.float32)
    grids = np.ceil(bins).astype(int).clip(min=0)
    for grid in np.unique(grids, axis=0):
        group = np.flatnonzero((grids == grid).all(axis=1))
        own_layer, own_id = layer_of[group, None, None], ids[group, None, None]
        rows, cols = (
            [
                _samples(start[group, axis], bins[group, axis], points, step, out_shape[axis], layers.shape[1 + axis])
                for step in range(points)
            ]
            for axis, points in enumerate(grid.tolist())
        )
        for row, next_row, row_rest, row_part in ([part[:, :, None] for part in row] for row in rows):
            for col, next_col, col_rest, col_part in ([part[:, None, :] for part in col] for col in cols):
                value = (row_rest * col_rest) * (layers[own_layer, row, col] == own_id)
                value += (row_rest * col_part) * (layers[own_layer, row, next_col] == own_id)
                value += (row_part * col_rest) * (layers[own_layer, next_row, col] == own_id)
                value += (row_part * col_part) * (layers[own_layer, next_row, next_col] == own_id)
                targets[group] += value
        targets[group] /= np.float32(max(grid.prod(), 1))
    return targets


def instance_roi_align_on_device(
    layers: np.ndarray, layer_of: np.ndarray, ids: np.ndarray, boxes: np.ndarray, out_shape: tuple, device: str
) -> np.ndarray:
    """As :func:`instance_roi_align`, by mmcv's ``roi_align`` on 0/1 masks that are made on a device a few at a time.

    A GPU would wait while the CPU makes the targets of a step.

    Args:
        layers, layer_of, ids, boxes, out_shape: As in :func:`instance_roi_align`.
        device (str): For example ``'cuda'``.

    Returns:
        ndarray: (K, h, w) float32 in 0..1.
    """
    if not len(boxes):
        return np.zeros((0, *out_shape), np.float32)
    layers = torch.from_numpy(np.ascontiguousarray(layers).astype(np.int32)).to(device)
    layer_of, ids, boxes = (torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in (layer_of, ids, boxes))
    targets = []
    for part in torch.arange(len(boxes), device=device).split(max(CHUNK_PX // layers[0].numel(), 1)):
        masks = (layers[layer_of[part]] == ids[part, None, None]).float()[:, None]
        rois = torch.cat([torch.arange(len(part), device=device)[:, None], boxes[part]], dim=1)
        targets.append(roi_align(masks, rois, out_shape, 1.0, 0, 'avg', True)[:, 0])
    return torch.cat(targets).cpu().numpy()


def _samples(start: np.ndarray, bins: np.ndarray, grid: int, step: int, count: int, length: int) -> tuple:
    """Along one axis, the ``step``-th of ``grid`` sampling points in each of ``count`` bins of K boxes.

    Args:
        start (ndarray): (K,) float32 start of each box.
        bins (ndarray): (K,) float32 size of its bins.
        grid (int): Points a bin.
        step (int): Which of them.
        count (int): Bins.
        length (int): Pixels of the map.

    Returns:
        tuple: (K, count) indices of the pixel before and after each point, and the float32 weights of the two, both 0
        for a point more than a pixel outside.

    A box from 1.25 of two bins of 2 px, at the only sampling point in each: at 2.25, which lies between pixels 2 and 3
    in the ratio 3 to 1, and at 4.25, beyond the middle of the last of 5 pixels:

    >>> box, bins = np.array([1.25], np.float32), np.array([2], np.float32)
    >>> before, after, before_weight, after_weight = _samples(box, bins, 1, 0, 2, 5)
    >>> before, after
    (array([[2, 4]]), array([[3, 4]]))
    >>> before_weight, after_weight
    (array([[0.75, 1.  ]], dtype=float32), array([[0.25, 0.  ]], dtype=float32))
    """
    bins = bins[:, None]
    point = start[:, None] + np.arange(count, dtype=np.float32) * bins
    point = point + (np.float32(step) + np.float32(0.5)) * bins / np.float32(grid)
    inside = (point >= -1) & (point <= length)
    point = np.maximum(point, np.float32(0))
    before = np.minimum(point.astype(int), length - 1)
    after = np.minimum(before + 1, length - 1)
    part = np.where(before >= length - 1, np.float32(0), point - before.astype(np.float32))
    return before, after, np.where(inside, np.float32(1) - part, np.float32(0)), np.where(inside, part, np.float32(0))
