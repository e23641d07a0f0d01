"""Non-maximum suppression that compares a box with its neighbours, for scenes of thousands of boxes on the CPU."""

import functools
import warnings
from collections.abc import Callable

import numpy as np
import torch
from mmcv.ops import nms
from torch import Tensor

# Boxes a strip, found by timing: with fewer there are more searches, with more there are more comparisons.
STRIP = 256
# Below it two boxes may suppress each other that hardly touch, and neighbours are most of the scene.
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

    Boxes, scores and indices are those of mmcv in the same order: scores are sorted by the same function, and IoUs are
    computed by the same operations in float32, so that ties and thresholds fall alike. (A compiler that fuses the
    product and the sum of mmcv's IoU, as GCC may on ARM, can change its last bit.) A config names it as
    ``nms=dict(type='sparse_nms', iou_threshold=...)``.

    Only float32 tensors on the CPU with finite boxes take this way, where numba is at hand; all else goes to mmcv.

    Args:
        boxes (Tensor | ndarray): (N, 4) [x1, y1, x2, y2].
        scores (Tensor | ndarray): (N,).
        iou_threshold (float): A box is dropped if its IoU with a kept one of higher score is above.
        offset (int): 0 or 1; width and height are x2 - x1 + offset and y2 - y1 + offset.
        score_threshold (float): If above 0, boxes of at most this score are dropped.
        max_num (int): If above 0, the most boxes to keep.

    Returns:
        tuple: (K, 5) boxes with scores, the highest first, and their (K,) int64 indices.
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
    """Whether mmcv would take these boxes, and neighbours of a box can be told from the others."""
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
    """(M,) int64 indices of the scores above the threshold, sorted as mmcv sorts them."""
    scores = scores.detach()
    if score_threshold > 0:
        valid = (scores > score_threshold).nonzero().squeeze(1)
        return valid[scores[valid].sort(0, descending=True)[1]]
    return scores.sort(0, descending=True)[1]


def keep_highest(
    boxes: np.ndarray, order: np.ndarray, iou_threshold: float, offset: int, suppress: Callable
) -> np.ndarray:
    """Which boxes NMS keeps, by :func:`suppress_neighbours`.

    Boxes are sorted by x1 and cut into strips of :data:`STRIP`, each sorted by y1: the neighbours of a box are a few
    rows of a few strips.

    Args:
        boxes (ndarray): (N, 4) float32, finite.
        order (ndarray): (M,) int64 indices of boxes, the highest score first.
        iou_threshold (float): At least :data:`MIN_THRESHOLD`.
        offset (int): 0 or 1.
        suppress (Callable): :func:`suppress_neighbours`, or what numba makes of it.

    Returns:
        ndarray: (M,) bool, in the given order.
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
        corners (ndarray): (4, S, B) float32 x1, y1, x2 and y2 of strips, sorted by y1.
        left (ndarray): (S,) float32 lowest x1 of each strip, ascending.
        place (ndarray): (M,) int64 places of the boxes in the strips laid end to end, the highest score first.
        threshold (float32): Of the IoU.
        offset (float32): Added to width and height.

    Returns:
        ndarray: (M,) bool, whether a box is kept.
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
                # a box kept before would have dropped this one, so only boxes that come later can be hit, and itself
                dropped[s, j] |= overlap / (area + areas[s, j] - overlap) > threshold
    return kept


@functools.cache
def _compiled() -> Callable | None:
    """:func:`suppress_neighbours` as machine code, kept on disk for the next process; None where numba cannot."""
    try:
        import numba  # here, so that a broken one costs time alone

        suppress = numba.njit(cache=True, error_model='numpy')(suppress_neighbours)
        keep_highest(np.zeros((1, 4), np.float32), np.zeros(1, np.int64), 0.5, 0, suppress)
    except Exception as error:  # of any kind: LLVM, the CPU, a folder that cannot be written
        warnings.warn(f'numba cannot compile NMS, so mmcv does it, which takes longer ({error!r})', stacklevel=2)
        return None
    return suppress
