"""Cells of several views of an image, merged by their masks, one view after another."""

import numpy as np
import shapely

from cellseg_mm.structures import Cells, Runs

# The least IoU of two masks of the same cell; the usual threshold for matching masks.
IOU_THR = 0.5
# Scores become whole numbers, so that sums are exact and equal masks stay equal: float32 from 2**-16 on loses nothing.
UNIT = 2**40


class MaskVotes:
    """The views' cells, merged as they come; the cells of single views are not kept.

    A cell of a view matches a cell of earlier views if both have the same class and their masks' IoU is
    :data:`IOU_THR` or more. Matching is one to one, the pair of highest IoU first, so that two cells of a view, which
    may touch, are never merged. A cell without a match is a new one.

    A merged cell's **score** is the mean over all views, 0 for those that missed it. So it means the same as a view's
    own score, and a cell that few views find ranks low but is not lost. Its **mask** holds the pixels that at least
    half of its views show, each view weighted by its score. (Weighted box fusion, Solovyev et al., Image and Vision
    Computing 107 (2021) 104117, scales scores in the same way; it does not treat masks.)

    The votes on a cell are stored as a step function over the places of the image: where they change and by how much.
    Memory depends on the borders of ``max_cells`` cells.

    Args:
        height (int): Height of the image in px.
        width (int): Width of the image in px.
        max_cells (int): After each view, only this many cells are kept, those of the highest scores so far.

    Examples:
        Two views of an image of one column of 4 px. The second view sees the cell a px lower, with half the score:

        >>> votes = MaskVotes(height=4, width=1, max_cells=10)
        >>> for start, score in ((0, 0.5), (1, 0.25)):
        ...     runs = Runs(np.array([0]), np.array([start]), np.array([3]))
        ...     votes.add(Cells(runs, np.array([2]), np.array([score]), 4, 1))
        >>> cells = votes.result()
        >>> cells.scores.tolist(), cells.runs.places().tolist()
        ([0.375], [0, 1, 2])
    """

    def __init__(self, height: int, width: int, max_cells: int) -> None:
        self.height, self.width = height, width
        self.max_cells = max_cells
        self._num_views = 0
        self._labels, self._weights = np.zeros((2, 0), np.int64)
        # of the step functions: cell, place and change of the votes, ordered by cell and place
        self._steps = np.zeros((3, 0), np.int64)

    def add(self, cells: Cells) -> None:
        """Merge the cells of a view, mapped back to the image; cells without a pixel are left out."""
        self._num_views += 1
        cells = cells.select(cells.areas() > 0)
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
        """Return the merged cells, by falling score."""
        cells = self._majority()
        return cells.select(np.argsort(-cells.scores, kind='stable'))

    def _match(self, cells: Cells) -> np.ndarray:
        """(N,) index of the merged cell that matches each of a view's cells, -1 for a new cell."""
        merged, is_taken = np.full(len(cells), -1), np.zeros(len(self._labels), bool)
        for own, other in _like_pairs(cells, self._majority()):
            if merged[own] < 0 and not is_taken[other]:
                merged[own], is_taken[other] = other, True
        return merged

    def _majority(self) -> Cells:
        """The merged cells, in the order in which they were found."""
        owner, place, change = self._steps
        # each cell's votes end at 0, so one sum serves all cells, and a run ends with a step of the same cell
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
    """(P, 2) indices of pairs of cells and others that may be the same cell, the highest IoU first."""
    boxes, other_boxes = cells.boxes(), others.boxes()
    pairs = shapely.STRtree(shapely.box(*other_boxes.T)).query(shapely.box(*boxes.T)).T
    own, other = pairs.T
    sides = np.minimum(boxes[own, 2:], other_boxes[other, 2:]) - np.maximum(boxes[own, :2], other_boxes[other, :2])
    areas = np.stack([cells.areas()[own], others.areas()[other]])
    # the intersection lies in both boxes, the union holds the larger cell: most pairs fail whatever their masks
    possible = sides.prod(axis=1) >= IOU_THR * areas.max(axis=0)
    possible &= cells.labels[own] == others.labels[other]
    pairs, areas = pairs[possible], areas[:, possible]
    shared = cells.shared_areas(others, pairs)
    iou = shared / (areas.sum(axis=0) - shared)
    return pairs[np.argsort(-iou, kind='stable')][: np.count_nonzero(iou >= IOU_THR)]


def _sum_steps(steps: np.ndarray) -> np.ndarray:
    """Sort steps (3, S), and add up those at the same place of the same cell.

    Examples:
        >>> _sum_steps(np.array([[1, 0, 0], [5, 7, 7], [1, 2, 3]])).tolist()
        [[0, 1], [7, 5], [5, 1]]
    """
    owner, place, change = steps[:, np.lexsort(steps[1::-1])]
    firsts = np.flatnonzero(np.diff(owner, prepend=-1) | np.diff(place, prepend=-1))
    change = np.add.reduceat(change, firsts) if len(firsts) else change
    return np.stack([owner[firsts], place[firsts], change])
