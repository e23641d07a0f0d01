"""Cells of several views of an image merged by their masks, one view after another."""

import numpy as np
import shapely
from pycocotools import mask as mask_utils

from cellseg_mm.structures import Cells, Runs

# Of two masks that are taken for one cell, at least; as usual where masks are matched.
IOU_THR = 0.5
# Scores as whole numbers, so that sums are exact and equal masks stay equal: float32 from 2**-16 on loses nothing.
UNIT = 2**40


class MaskVotes:
    """The views' cells, merged as they come: what a view found is not kept.

    A cell of a view is taken for one that earlier views found if both have the same class and their masks' IoU is
    :data:`IOU_THR` or more. It is one to one, the pair of highest IoU first, so that two cells of a view, which may
    touch, are never merged. A cell that is taken for no other is a new one.

    A merged cell's **score** is the mean over all views, 0 for those that missed it. So it has the meaning that a
    view's own score has, and a cell that few views find ranks low but is not lost. Its **mask** are the pixels that at
    least half of its views show, each weighted by its score. (Weighted box fusion, Solovyev et al., Image and Vision
    Computing 107 (2021) 104117, scales scores likewise; of masks it says nothing.)

    The votes on a cell are a step function over the places of the image: where they change and by how much. Memory goes
    with the borders of ``max_cells`` cells.

    Args:
        height (int): Of the image, in px.
        width (int): Likewise.
        max_cells (int): Of more, those of the lowest scores so far are dropped after each view.
    """

    def __init__(self, height: int, width: int, max_cells: int) -> None:
        self.height, self.width = height, width
        self.max_cells = max_cells
        self._num_views = 0
        self._labels, self._weights = np.zeros((2, 0), np.int64)
        # of the step functions: cell, place and change of the votes, ordered by cell and place
        self._steps = np.zeros((3, 0), np.int64)

    def add(self, cells: Cells) -> None:
        """Merge in the cells of a view, mapped back to the image; those without a pixel are left out."""
        self._num_views += 1
        cells = cells.select(cells.runs.areas(len(cells)) > 0)
        merged = self._match(cells)
        is_new = merged < 0
        merged[is_new] = len(self._labels) + np.arange(np.count_nonzero(is_new))
        weights = np.maximum(np.rint(cells.scores.astype(np.float64) * UNIT), 1).astype(np.int64)
        self._labels = np.append(self._labels, cells.labels[is_new])
        self._weights = np.append(self._weights, np.zeros(np.count_nonzero(is_new), np.int64))
        self._weights[merged] += weights
        owner, start, length = cells.runs
        rise = np.stack([merged[owner], start, weights[owner]])
        fall = np.stack([merged[owner], start + length, -weights[owner]])
        self._steps = _sum_steps(np.concatenate([self._steps, rise, fall], axis=1))
        self._keep_best()

    def result(self) -> Cells:
        """The merged cells, by falling score."""
        cells = self._majority()
        return cells.select(np.argsort(-cells.scores, kind='stable'))

    def _match(self, cells: Cells) -> np.ndarray:
        """(N,) index of the merged cell that each of a view's cells is taken for, -1 for none."""
        merged, is_taken = np.full(len(cells), -1), np.zeros(len(self._labels), bool)
        for own, other in _like_pairs(cells, self._majority()):
            if merged[own] < 0 and not is_taken[other]:
                merged[own], is_taken[other] = other, True
        return merged

    def _majority(self) -> Cells:
        """The merged cells, in the order in which they were found."""
        owner, place, change = self._steps
        # a cell's votes end at 0: sums start anew with each, and what begins inside ends with a step of the same cell
        inside = np.flatnonzero(2 * np.cumsum(change) >= self._weights[owner])
        runs = Runs(owner[inside], place[inside], place[inside + 1] - place[inside])
        scores = self._weights / (UNIT * max(self._num_views, 1))
        return Cells(runs, self._labels, scores.astype(np.float32), self.height, self.width)

    def _keep_best(self) -> None:
        is_kept = np.zeros(len(self._weights), bool)
        is_kept[np.argsort(-self._weights, kind='stable')[: self.max_cells]] = True
        owner, place, change = self._steps[:, is_kept[self._steps[0]]]
        self._steps = np.stack([(np.cumsum(is_kept) - 1)[owner], place, change])
        self._labels, self._weights = self._labels[is_kept], self._weights[is_kept]


def _like_pairs(cells: Cells, others: Cells) -> np.ndarray:
    """(P, 2) indices of cells of the one and of the other that are like enough to be one, the highest IoU first."""
    boxes, other_boxes = cells.boxes(), others.boxes()
    pairs = shapely.STRtree(shapely.box(*other_boxes.T)).query(shapely.box(*boxes.T)).T
    own, other = pairs.T
    sides = np.minimum(boxes[own, 2:], other_boxes[other, 2:]) - np.maximum(boxes[own, :2], other_boxes[other, :2])
    areas = cells.runs.areas(len(cells))[own], others.runs.areas(len(others))[other]
    # the intersection lies in both boxes, the union holds the larger: most pairs cannot be like, whatever their masks
    possible = sides.prod(axis=1) >= IOU_THR * np.maximum(*areas)
    pairs = pairs[possible & (cells.labels[own] == others.labels[other])]
    codes, other_codes = cells.codes(), others.codes()
    iou = np.array([mask_utils.iou([codes[own]], [other_codes[other]], [0])[0, 0] for own, other in pairs])
    return pairs[np.argsort(-iou, kind='stable')][: np.count_nonzero(iou >= IOU_THR)]


def _sum_steps(steps: np.ndarray) -> np.ndarray:
    """Steps (3, S) in order, those at the same place of the same cell as one."""
    owner, place, change = steps[:, np.lexsort(steps[1::-1])]
    firsts = np.flatnonzero(np.diff(owner, prepend=-1) | np.diff(place, prepend=-1))
    change = np.add.reduceat(change, firsts) if len(firsts) else change
    return np.stack([owner[firsts], place[firsts], change])
