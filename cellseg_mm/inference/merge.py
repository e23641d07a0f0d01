"""The cells of overlapping tiles become those of the image: each once and whole.

A *piece* is what one tile shows of a cell. It is *cut* on a side where it ends within :data:`EDGE` px of a border of
the tile that is none of the image, and *whole* if it is cut on none.

1. A cut piece is dropped where another tile holds it too and cuts it on fewer sides: that tile saw all of it and more,
   so what it found there counts, be it nothing. Cut pieces that are left span the overlap.
2. Of two pieces the *better* one is that cut on fewer sides, then that of the higher score, then that of the earlier
   tile. Where one of them is whole, the better one displaces the other if it covers at least :data:`COVERED` of it, as
   in non-maximum suppression. Labels do not matter. Pieces of one tile never displace each other: how often a detector
   finds a cell in one image is its own business.
3. Cut pieces of two tiles *agree* if, within the pixels that both tiles show, their intersection is at least
   :data:`AGREEMENT` of their union. Those that agree become one cell, however many there are, with the label and the
   score of the best. Cells that touch and have no pixel in common never agree.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cellseg_mm.structures import Cells, Runs

from .tiles import TileGrid

# px: a mask that ends this close to a border counts as cut there, for a detector's edge is not exact
EDGE = 2
# px: a tile sees a piece better than another only if it ends this far from its border. So much more than EDGE that two
# tiles whose masks differ by a few px cannot each leave a cell to the other.
CLEAR = 8
# share of a piece's own area, as where instances are painted into one map
COVERED = 0.5
# intersection over union, as usual where masks are matched
AGREEMENT = 0.5
# pairs of pieces whose runs are compared at a time, so that memory does not grow with the width of the image
PAIRS_AT_A_TIME = 4096


@dataclass(frozen=True)
class _Pieces:
    """N pieces.

    Attributes:
        cells: In the image's pixels.
        boxes: (N, 4) int64 [x1, y1, x2, y2), likewise.
        tiles: (N, 2) int64, column and row of the tile.
        cuts: (N,) int64, the number of sides on which the tile cuts it.
    """

    cells: Cells
    boxes: np.ndarray
    tiles: np.ndarray
    cuts: np.ndarray

    @classmethod
    def of_tile(cls, cells: Cells, col: int, row: int, grid: TileGrid) -> '_Pieces':
        """Those of a tile, from its cells in its own pixels; cells without a pixel are left out."""
        cells = place_in_image(cells, int(grid.xs[col]), int(grid.ys[row]), grid.height, grid.width)
        boxes, tiles = cells.boxes(), np.tile((col, row), (len(cells), 1))
        cuts = sum(_seen_along(axis, boxes, tiles[:, axis], grid, EDGE)[1] for axis in (0, 1))
        return cls(cells, boxes, tiles, cuts).select(boxes[:, 2] > 0)

    @classmethod
    def concatenate(cls, parts: list) -> '_Pieces':
        cells, *arrays = ([getattr(part, name) for part in parts] for name in ('cells', 'boxes', 'tiles', 'cuts'))
        return cls(Cells.concatenate(cells), *map(np.concatenate, arrays))

    def __len__(self) -> int:
        return len(self.cells)

    def select(self, index: np.ndarray) -> '_Pieces':
        return _Pieces(self.cells.select(index), self.boxes[index], self.tiles[index], self.cuts[index])


def merge_tiles(grid: TileGrid, tiles: Iterable) -> Iterator:
    """The cells of an image from those of its tiles.

    Held in memory are the pieces near the seams of one row of tiles, and those of cells that reach into the next row.
    Pairs come from a spatial index, so that time is near-linear in the number of cells.

    Args:
        grid (TileGrid): Where the tiles lie.
        tiles (Iterable[Cells | None]): Of each tile in the grid's order its cells, in the tile's own pixels; None for a
            tile that was not looked at.

    Yields:
        Cells: Parts with one cell at least, in the whole image's pixels. Cells without a pixel are left out.
    """
    tiles = iter(tiles)
    looked_at = np.zeros((len(grid.xs), len(grid.ys)), bool)
    waiting = []
    for row in range(len(grid.ys)):
        for col in range(len(grid.xs)):
            cells = next(tiles)
            if cells is None:
                continue
            looked_at[col, row] = True
            pieces = _Pieces.of_tile(cells, col, row, grid)
            near_seam = _near_seam(pieces, grid)
            if not near_seam.all():
                yield pieces.cells.select(~near_seam)
            waiting.append(pieces.select(near_seam))
        if not waiting:
            continue
        pieces = _Pieces.concatenate(waiting)
        pieces = pieces.select(~_seen_better(pieces, grid, looked_at))
        # the best first; of equal ones the earlier tile's stays ahead
        pieces = pieces.select(np.lexsort([-pieces.cells.scores, pieces.cuts]))
        displacing, agreeing = _related_pairs(pieces, grid)
        # a piece is settled when all that it is related to have come, and all that those are related to
        group = _groups(np.concatenate([displacing, agreeing]), len(pieces))
        next_y = grid.ys[row + 1] if row + 1 < len(grid.ys) else grid.height
        is_open = np.isin(group, group[pieces.boxes[:, 3] > next_y])
        waiting = [pieces.select(is_open)]
        if not is_open.all():
            yield _settle(pieces, displacing, agreeing, ~is_open)


def place_in_image(cells: Cells, x: int, y: int, height: int, width: int) -> Cells:
    """The cells of a window as cells of the image.

    Args:
        cells (Cells): In the window's pixels.
        x (int): First column of the window in the image, in px.
        y (int): First row, likewise.
        height (int): Of the image, in px.
        width (int): Likewise.
    """
    owner, start, length = cells.runs.split_at_columns(cells.height)
    col, row = np.divmod(start, cells.height)
    return Cells(Runs(owner, (col + x) * height + row + y, length), cells.labels, cells.scores, height, width)


def _seen_along(axis: int, boxes: np.ndarray, index: np.ndarray, grid: TileGrid, margin: int) -> tuple:
    """Whether the columns (axis 0) or rows (1) of tiles hold the boxes, (N,) bool, and on how many sides they cut them.

    A box is cut on a side where it is less than ``margin`` px from a border that is none of the image.
    """
    starts, size = grid.along(axis)
    start, low, high = starts[np.clip(index, 0, len(starts) - 1)], boxes[:, axis], boxes[:, axis + 2]
    holds = (index >= 0) & (index < len(starts)) & (low >= start) & (high <= start + size)
    cut_at_start = (index > 0) & (low - start < margin)
    cut_at_end = (index < len(starts) - 1) & (start + size - high < margin)
    return holds, cut_at_start.astype(np.int64) + cut_at_end


def _near_seam(pieces: _Pieces, grid: TileGrid) -> np.ndarray:
    """(N,) bool, whether the box reaches into another tile."""
    near = np.zeros(len(pieces), bool)
    for axis in (0, 1):
        starts, size = grid.along(axis)
        index = pieces.tiles[:, axis]
        near |= pieces.boxes[:, axis] < np.append(0, starts[:-1] + size)[index]
        near |= pieces.boxes[:, axis + 2] > np.append(starts[1:], starts[-1] + size)[index]
    return near


def _seen_better(pieces: _Pieces, grid: TileGrid, looked_at: np.ndarray) -> np.ndarray:
    """(N,) bool, whether another of the tiles that were looked at, (C, R) bool, holds a piece and cuts it less."""
    better = np.zeros(len(pieces), bool)
    looked_at = np.pad(looked_at, 1)
    for x_step, y_step in itertools.product((-1, 0, 1), repeat=2):
        other = pieces.tiles + np.array([x_step, y_step])
        # where the step is 0 the borders are the piece's own tile's
        margins = (CLEAR if step else EDGE for step in (x_step, y_step))
        (x_holds, x_cuts), (y_holds, y_cuts) = (
            _seen_along(axis, pieces.boxes, other[:, axis], grid, margin) for axis, margin in enumerate(margins)
        )
        better |= looked_at[other[:, 0] + 1, other[:, 1] + 1] & x_holds & y_holds & (x_cuts + y_cuts < pieces.cuts)
    return better


def _related_pairs(pieces: _Pieces, grid: TileGrid) -> tuple:
    """Pairs of which the first piece displaces the second, (P, 2) indices, and pairs that agree, (Q, 2).

    Args:
        pieces (_Pieces): The best first.
        grid (TileGrid): Their tiles.
    """
    boxes, runs = shapely.box(*pieces.boxes.T), pieces.cells.runs
    pairs = shapely.STRtree(boxes).query(boxes).T
    first, second = pairs.T
    pairs = pairs[(first < second) & (pieces.tiles[first] != pieces.tiles[second]).any(axis=1)]
    shared = np.zeros(len(pairs), np.int64)
    for begin in range(0, len(pairs), PAIRS_AT_A_TIME):
        part = slice(begin, begin + PAIRS_AT_A_TIME)
        sides = (runs.select(index, len(pieces)) for index in pairs[part].T)
        shared[part] = _intersections(*sides, len(pairs[part]), grid.height * grid.width)
    pairs, shared = pairs[shared > 0], shared[shared > 0]

    both_cut = pieces.cuts[pairs[:, 0]] > 0
    displacing = pairs[~both_cut & (shared >= COVERED * runs.areas(len(pieces))[pairs[:, 1]])]
    pairs, shared = pairs[both_cut], shared[both_cut]
    origins = np.stack([grid.xs[pieces.tiles[:, 0]], grid.ys[pieces.tiles[:, 1]]], axis=1)[pairs]
    low, high = origins.max(axis=1), origins.min(axis=1) + np.array([grid.tile_width, grid.tile_height])
    areas = sum(_areas_within(runs.select(index, len(pieces)), low, high, grid.height) for index in pairs.T)
    return displacing, pairs[shared >= AGREEMENT * (areas - shared)]


def _intersections(first: Runs, second: Runs, num_instances: int, num_places: int) -> np.ndarray:
    """(N,) areas that instance k of the one and instance k of the other have in common, in px."""
    starts = second.start + second.owner * num_places
    before = np.cumsum(second.length) - second.length

    def covered_up_to(place: np.ndarray) -> np.ndarray:
        index = np.searchsorted(starts, place, 'right') - 1
        return np.where(index < 0, 0, before[index] + np.minimum(place - starts[index], second.length[index]))

    start = first.start + first.owner * num_places
    return np.bincount(first.owner, covered_up_to(start + first.length) - covered_up_to(start), num_instances)


def _areas_within(runs: Runs, low: np.ndarray, high: np.ndarray, height: int) -> np.ndarray:
    """(N,) areas of N instances, each within its window from ``low`` (N, 2) to ``high`` (N, 2), x and y; px."""
    (left, top), (right, bottom) = low[runs.owner].T, high[runs.owner].T
    col, row = np.divmod(runs.start, height)
    length = np.minimum(row + runs.length, bottom) - np.maximum(row, top)
    return np.bincount(runs.owner, np.where((col >= left) & (col < right), length.clip(0), 0), len(low))


def _groups(pairs: np.ndarray, count: int) -> np.ndarray:
    """(N,) number of the group of each of N pieces that pairs (P, 2) connect."""
    links = coo_array((np.ones(len(pairs), bool), pairs.T), shape=(count, count))
    return connected_components(links, directed=False)[1]


def _settle(pieces: _Pieces, displacing: np.ndarray, agreeing: np.ndarray, ready: np.ndarray) -> Cells:
    """The cells that pieces amount to.

    Args:
        pieces (_Pieces): N, the best first.
        displacing (ndarray): (P, 2) pairs, see :func:`_related_pairs`.
        agreeing (ndarray): (Q, 2) pairs, likewise.
        ready (ndarray): (N,) bool, the pieces that are meant; none of them is related to one that is not.
    """
    better, worse = displacing.T
    stays = np.ones(len(pieces), bool)
    # a piece that does not stay displaces none. Each round settles one link more of every chain of displacements.
    while True:
        updated = np.ones(len(pieces), bool)
        updated[worse[stays[better]]] = False
        if (updated == stays).all():
            break
        stays = updated
    stays &= ready
    group = _groups(agreeing[stays[agreeing].all(axis=1)], len(pieces))[stays]
    kept = pieces.cells.select(stays)
    _, best, owner = np.unique(group, return_index=True, return_inverse=True)
    runs = _unite(kept.runs, owner, kept.height * kept.width)
    return Cells(runs, kept.labels[best], kept.scores[best], kept.height, kept.width)


def _unite(runs: Runs, owner: np.ndarray, num_places: int) -> Runs:
    """The runs of the unions of instances, given which union (N,) each instance belongs to."""
    owner = owner[runs.owner]
    offset = owner * (num_places + 1)  # so that one's last run does not touch the next one's first
    order = np.argsort(runs.start + offset, kind='stable')
    start, end = (runs.start + offset)[order], np.maximum.accumulate((runs.start + runs.length + offset)[order])
    opens = np.append(True, start[1:] > end[:-1])
    closes = np.append(opens[1:], True)
    start, end, owner, offset = start[opens], end[closes], owner[order][opens], offset[order][opens]
    return Runs(owner, start - offset, end - start)
