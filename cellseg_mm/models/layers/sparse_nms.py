"""Non-maximum suppression that compares a box with its neighbours, for scenes of thousands of boxes on the CPU."""

import functools
import warnings
from collections.abc import Callable

import numpy as np
import torch
from mmcv.ops import nms
from torch import Tensor

# Boxes a strip, found by timing: fewer cost more searches, more cost more comparisons.
STRIP = 256
# Below this, boxes that hardly touch may suppress each other, and most of the scene are neighbours.
MIN_THRESHOLD = 0.01


def sparse_nms(
    boxes: Tensor | np.ndarray,
    scores: Tensor | np.ndarray,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
    max_num: int = -1,
) -> tuple:
    """mmcv's ``nms`` without comparing every kept box with all that follow it.

    Boxes, scores and indices equal mmcv's, in the same order: scores are sorted by the same function, and IoUs are
    computed by the same operations in float32, so that ties and thresholds are decided in the same way. (A compiler
    that fuses the product and the sum of mmcv's IoU, as GCC may on ARM, can change its last bit.) A config names it as
    ``nms=dict(type='sparse_nms', iou_threshold=...)``.

    It takes float32 tensors on the CPU with finite boxes, if numba works; anything else goes to mmcv.

    Args:
        boxes (Tensor | ndarray): (N, 4) [x1, y1, x2, y2].
        scores (Tensor | ndarray): (N,).
        iou_threshold (float): A box is dropped if its IoU with a kept one of higher score is above this.
        offset (int): 0 or 1; width and height are x2 - x1 + offset and y2 - y1 + offset.
        score_threshold (float): If above 0, boxes of at most this score are dropped.
        max_num (int): If above 0, the most boxes to keep.

    Returns:
        tuple: (K, 5) boxes with scores, the highest first, and their (K,) int64 indices.

    Examples:
        The second box has an IoU of 0.6 with the first, which scores higher:

        >>> boxes = torch.tensor([[0.0, 0, 8, 8], [2, 0, 10, 8], [20, 0, 28, 8]])
        >>> kept, indices = sparse_nms(boxes, torch.tensor([0.75, 0.5, 0.875]), iou_threshold=0.5)
        >>> indices.tolist()
        [2, 0]
        >>> kept[:, 4].tolist()
        [0.875, 0.75]
    """
    if not _is_supported(boxes, scores, iou_threshold, offset) or _compiled() is None:
        return nms(boxes, scores, iou_threshold, offset, score_threshold, max_num)
    order = _ranks(scores, score_threshold)
    kept = keep_highest(boxes.detach().numpy(), order.numpy(), iou_threshold, offset, _compiled())
    indices = order[torch.from_numpy(kept)]
    if max_num > 0:
        indices = indices[:max_num]
    return torch.cat([boxes[indices], scores[indices].reshape(-1, 1)], dim=1), indices


def _is_supported(boxes: object, scores: object, iou_threshold: float, offset: int) -> bool:
    """Whether mmcv would take these boxes, and a box has neighbours that are few."""
    return (
        isinstance(boxes, Tensor)
        and isinstance(scores, Tensor)
        and boxes.device.type == scores.device.type == 'cpu'
        and boxes.dtype == torch.float32
        and boxes.shape == (len(scores), 4)
        and offset in (0, 1)
        and iou_threshold >= MIN_THRESHOLD
        and bool(boxes.isfinite().all())
    )


def _ranks(scores: Tensor, score_threshold: float) -> Tensor:
    """(M,) int64 indices of the scores above the threshold, in mmcv's order."""
    scores = scores.detach()
    if score_threshold > 0:
        valid = (scores > score_threshold).nonzero().squeeze(1)
        return valid[scores[valid].sort(0, descending=True)[1]]
    return scores.sort(0, descending=True)[1]


def keep_highest(
    boxes: np.ndarray, order: np.ndarray, iou_threshold: float, offset: int, suppress: Callable
) -> np.ndarray:
    """Which boxes NMS keeps, by :func:`suppress_neighbours`.

    Boxes are sorted by x1 and cut into strips of :data:`STRIP`, each sorted by y1, so that the neighbours of a box are
    a few rows of a few strips.

    Args:
        boxes (ndarray): (N, 4) float32, finite.
        order (ndarray): (M,) int64 indices of boxes, the highest score first.
        iou_threshold (float): At least :data:`MIN_THRESHOLD`.
        offset (int): 0 or 1.
        suppress (Callable): :func:`suppress_neighbours`, plain or compiled.

    Returns:
        ndarray: (M,) bool, in the given order.

    Examples:
        >>> boxes = np.array([[0, 0, 8, 8], [2, 0, 10, 8], [20, 0, 28, 8]], np.float32)
        >>> keep_highest(boxes, np.array([2, 0, 1]), 0.5, 0, suppress_neighbours).tolist()
        [True, True, False]
    """
    ranked = boxes[order]
    nowhere = np.array([[np.inf, np.inf, -np.inf, -np.inf]], np.float32)
    padded = np.concatenate([ranked, nowhere.repeat(-len(ranked) % STRIP, axis=0)])
    strips = padded[:, 0].argsort().reshape(-1, STRIP)
    left = padded[strips[:, 0], 0]
    strips = np.take_along_axis(strips, padded[strips, 1].argsort(axis=1), axis=1)
    place = np.empty(strips.size, np.int64)
    place[strips.ravel()] = np.arange(strips.size)
    corners = np.ascontiguousarray(padded[strips].transpose(2, 0, 1))
    return suppress(corners, left, place[: len(ranked)], np.float32(iou_threshold), np.float32(offset))


def suppress_neighbours(
    corners: np.ndarray, left: np.ndarray, place: np.ndarray, threshold: np.float32, offset: np.float32
) -> np.ndarray:
    """Greedy NMS; plain Python that numba can compile.

    If the IoU of two boxes is above t, their intersection is at least t times as wide as either. So if the kept box has
    width w, x1 of the other lies between x1 - w (1 - t) / t and x1 + w (1 - t). The same holds for y1 and the height.
    A t that is 1 % lower, and a thousandth of a px, allow for rounding.

    Args:
        corners (ndarray): (4, S, B) float32 x1, y1, x2 and y2 of S strips of B boxes, each sorted by y1.
        left (ndarray): (S,) float32 lowest x1 of each strip, ascending.
        place (ndarray): (M,) int64 places of the boxes in the strips laid end to end, the highest score first.
        threshold (float32): IoU threshold.
        offset (float32): Added to width and height.

    Returns:
        ndarray: (M,) bool, whether a box is kept.

    Examples:
        Two strips of two boxes each; their second boxes, at places 1 and 3, have the highest scores and overlap:

        >>> x1 = np.array([[0, 0], [2, 1]], np.float32)
        >>> y1 = np.array([[0, 20], [0, 20]], np.float32)
        >>> corners, left = np.stack([x1, y1, x1 + 8, y1 + 8]), x1.min(axis=1)
        >>> place = np.array([3, 1, 0, 2])
        >>> suppress_neighbours(corners, left, place, np.float32(0.7), np.float32(0)).tolist()
        [True, False, True, True]
    """
    x1, y1, x2, y2 = corners
    areas = (x2 - x1 + offset) * (y2 - y1 + offset)
    # as wide as the coordinates, so that the innermost loop compiles to vector instructions
    dropped = np.zeros(x1.shape, np.int32)
    kept = np.zeros(len(place), np.bool_)
    zero = np.float32(0)
    after = 1 - 0.99 * threshold
    before = after / (0.99 * threshold)
    for rank in range(len(place)):
        strip, row = divmod(place[rank], x1.shape[1])
        if dropped[strip, row]:
            continue
        kept[rank] = True
        left_i, top_i, right_i, bottom_i = x1[strip, row], y1[strip, row], x2[strip, row], y2[strip, row]
        area = areas[strip, row]
        width, height = right_i - left_i + offset, bottom_i - top_i + offset
        if width <= 0 or height <= 0:
            continue  # intersects nothing
        # near zero float32 has too few numbers for the bound
        slack = 1e-3 if area > 1e-36 else np.inf
        first = max(np.searchsorted(left, left_i - width * before - slack) - 1, 0)
        last = np.searchsorted(left, left_i + width * after + slack, side='right')
        for s in range(first, last):
            start = np.searchsorted(y1[s], top_i - height * before - slack)
            stop = np.searchsorted(y1[s], top_i + height * after + slack, side='right')
            for j in range(start, stop):
                w = max(zero, min(right_i, x2[s, j]) - max(left_i, x1[s, j]) + offset)
                h = max(zero, min(bottom_i, y2[s, j]) - max(top_i, y1[s, j]) + offset)
                overlap = w * h
                # an earlier kept box would have dropped this one, so this hits only later boxes, and the box itself
                dropped[s, j] |= overlap / (area + areas[s, j] - overlap) > threshold
    return kept


@functools.cache
def _compiled() -> Callable | None:
    """:func:`suppress_neighbours` as machine code, cached on disk for the next process; None if numba fails."""
    try:
        import numba  # here, so that a broken one costs only time

        suppress = numba.njit(cache=True, error_model='numpy')(suppress_neighbours)
        keep_highest(np.zeros((1, 4), np.float32), np.zeros(1, np.int64), 0.5, 0, suppress)
    except Exception as error:  # any kind: LLVM, the CPU, a folder without write permission
        warnings.warn(f'numba cannot compile NMS, so the slower one of mmcv is used ({error!r})', stacklevel=2)
        return None
    return suppress
