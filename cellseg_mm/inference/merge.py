"""The cells of overlapping tiles become the cells of the image, each once and whole.

A *piece* is the part of a cell that one tile shows. The tile *cuts* it on a side where it ends within :data:`EDGE` px
of the tile's border, unless that is the image's border. A piece without a cut side is *whole*.

1. A cut piece is dropped if another tile holds all of it and cuts it on fewer sides. That tile saw more of the cell, so
   its result counts, even if it found nothing. The remaining cut pieces span the overlap.
2. The *better* one of two pieces has fewer cut sides, then the higher score, then the earlier tile. If one of them is
   whole, the better one displaces the other if it covers at least :data:`COVERED` of it, as in non-maximum suppression.
   Labels do not matter. Pieces of one tile never displace each other, because the detector suppressed doubles already.
3. Cut pieces of two tiles *agree* if their intersection is at least :data:`AGREEMENT` of their union, within the pixels
   that both tiles show. All pieces that agree become one cell, with the label and the score of the best. Cells that
   touch without a common pixel never agree.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cellseg_mm.structures import Cells, Runs

from .tile_grid import TileGrid

# px: a mask that ends this close to a border counts as cut there, because a detector's edges are not exact
EDGE = 2
# px: a tile sees a piece better than another tile only if the piece ends this far from its border. It is larger than
# EDGE, so that two tiles whose masks differ by a few px cannot each leave a cell to the other.
CLEAR = 8
# share of a piece's own area, as in an id map of overlapping instances
COVERED = 0.5
# intersection over union, as usual in the matching of masks
AGREEMENT = 0.5


@dataclass(frozen=True)
class _Pieces:
    """N pieces.

    Attributes:
        cells: In the image's pixels.
        boxes: (N, 4) int64 [x1, y1, x2, y2) in the image's pixels.
        tiles: (N, 2) int64, column and row of the tile.
        cuts: (N,) int64, number of cut sides.
    """

    cells: Cells
    boxes: np.ndarray
    tiles: np.ndarray
    cuts: np.ndarray

    @classmethod
    def of_tile(cls, cells: Cells, col: int, row: int, grid: TileGrid) -> '_Pieces':
        """The pieces of a tile, from its cells in its own pixels; cells without a pixel are left out."""
        cells = cells.place(int(grid.xs[col]), int(grid.ys[row]), grid.height, grid.width)
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
    """The cells of an image from the cells of its tiles.

    Memory holds the pieces near the seams of one row of tiles, and those of cells that reach into the next row. Pairs
    come from a spatial index, so time is near-linear in the number of cells.

    Args:
        grid (TileGrid): The tiles.
        tiles (Iterable[Cells | None]): The cells of each tile in the grid's order, in the tile's own pixels; None for a
            skipped tile.

    Yields:
        Cells: Parts with at least one cell, in the image's pixels. Cells without a pixel are left out.

    Example:
        An image of 96 x 160 px in two tiles, which share the columns 64 to 95. A cell on columns 50 to 119 crosses the
        seam: the left tile cuts it on the right, the right tile cuts it on the left. In the shared columns both pieces
        agree, so they become one cell with the higher score.

        >>> grid = TileGrid.cover(96, 160, tile_size=96, overlap=32)
        >>> grid.xs.tolist(), grid.tile_width
        ([0, 64], 96)
        >>> def rectangle(x1, x2, score):  # columns x1 to x2 - 1, rows 10 to 19; one run for each column
        ...     columns = np.arange(x1, x2)
        ...     runs = Runs(np.zeros_like(columns), columns * 96 + 10, np.full_like(columns, 10))
        ...     return Cells(runs, np.array([0]), np.array([score]), height=96, width=96)
        >>> left, right = rectangle(50, 96, 0.8), rectangle(0, 56, 0.9)
        >>> cells = Cells.concatenate(list(merge_tiles(grid, [left, right])))
        >>> cells.boxes().tolist(), cells.scores.tolist()
        ([[50, 10, 120, 20]], [0.9])

        A right tile that saw nothing leaves the left piece as it is, because it does not hold all of the piece.

        >>> cells = Cells.concatenate(list(merge_tiles(grid, [left, left.select(np.zeros(1, bool))])))
        >>> cells.boxes().tolist()
        [[50, 10, 96, 20]]
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
        # the best first; among equal ones the earlier tile's stays ahead
        pieces = pieces.select(np.lexsort([-pieces.cells.scores, pieces.cuts]))
        displacing, agreeing = _related_pairs(pieces, grid)
        # a piece is settled when its whole group of related pieces has come
        group = _groups(np.concatenate([displacing, agreeing]), len(pieces))
        next_y = grid.ys[row + 1] if row + 1 < len(grid.ys) else grid.height
        is_open = np.isin(group, group[pieces.boxes[:, 3] > next_y])
        waiting = [pieces.select(is_open)]
        if not is_open.all():
            yield _settle(pieces, displacing, agreeing, ~is_open)


def _seen_along(axis: int, boxes: np.ndarray, index: np.ndarray, grid: TileGrid, margin: int) -> tuple:
    """Whether the columns (axis 0) or rows (1) of tiles hold the boxes, (N,) bool, and on how many sides they cut them.

    A box is cut on a side where it ends less than ``margin`` px from the tile's border, unless that is the image's.
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
    """(N,) bool, whether another tile holds the piece and cuts it less; (C, R) bool says which tiles were looked at."""
    better = np.zeros(len(pieces), bool)
    looked_at = np.pad(looked_at, 1)
    for x_step, y_step in itertools.product((-1, 0, 1), repeat=2):
        other = pieces.tiles + np.array([x_step, y_step])
        # with a step of 0 the borders are those of the piece's own tile
        margins = (CLEAR if step else EDGE for step in (x_step, y_step))
        (x_holds, x_cuts), (y_holds, y_cuts) = (
            _seen_along(axis, pieces.boxes, other[:, axis], grid, margin) for axis, margin in enumerate(margins)
        )
        better |= looked_at[other[:, 0] + 1, other[:, 1] + 1] & x_holds & y_holds & (x_cuts + y_cuts < pieces.cuts)
    return better


def _related_pairs(pieces: _Pieces, grid: TileGrid) -> tuple:
    """Pairs in which the first piece displaces the second, (P, 2) indices, and pairs that agree, (Q, 2).

    Args:
        pieces (_Pieces): The best first.
        grid (TileGrid): Their tiles.
    """
    boxes, runs = shapely.box(*pieces.boxes.T), pieces.cells.runs
    pairs = shapely.STRtree(boxes).query(boxes).T
    first, second = pairs.T
    pairs = pairs[(first < second) & (pieces.tiles[first] != pieces.tiles[second]).any(axis=1)]
    shared = pieces.cells.shared_areas(pieces.cells, pairs)
    pairs, shared = pairs[shared > 0], shared[shared > 0]

    both_cut = pieces.cuts[pairs[:, 0]] > 0
    displacing = pairs[~both_cut & (shared >= COVERED * pieces.cells.areas()[pairs[:, 1]])]
    pairs, shared = pairs[both_cut], shared[both_cut]
    origins = np.stack([grid.xs[pieces.tiles[:, 0]], grid.ys[pieces.tiles[:, 1]]], axis=1)[pairs]
    low, high = origins.max(axis=1), origins.min(axis=1) + np.array([grid.tile_width, grid.tile_height])
    areas = sum(_areas_within(runs.select(index, len(pieces)), low, high, grid.height) for index in pairs.T)
    return displacing, pairs[shared >= AGREEMENT * (areas - shared)]


def _areas_within(runs: Runs, low: np.ndarray, high: np.ndarray, height: int) -> np.ndarray:
    """(N,) areas in px of N instances, each within its window from ``low`` to ``high``, (N, 2) each, x and y."""
    (left, top), (right, bottom) = low[runs.owner].T, high[runs.owner].T
    col, row = np.divmod(runs.start, height)
    length = np.minimum(row + runs.length, bottom) - np.maximum(row, top)
    return np.bincount(runs.owner, np.where((col >= left) & (col < right), length.clip(0), 0), len(low))


def _groups(pairs: np.ndarray, count: int) -> np.ndarray:
    """(N,) group number of each of N pieces; pairs (P, 2) connect the pieces of a group."""
    links = coo_array((np.ones(len(pairs), bool), pairs.T), shape=(count, count))
    return connected_components(links, directed=False)[1]


def _settle(pieces: _Pieces, displacing: np.ndarray, agreeing: np.ndarray, ready: np.ndarray) -> Cells:
    """The cells from settled pieces.

    Args:
        pieces (_Pieces): N, the best first.
        displacing (ndarray): (P, 2) pairs, see :func:`_related_pairs`.
        agreeing (ndarray): (Q, 2) pairs, see :func:`_related_pairs`.
        ready (ndarray): (N,) bool, the settled pieces; they are related to one another only.
    """
    better, worse = displacing.T
    stays = np.ones(len(pieces), bool)
    # a displaced piece displaces no other. Each round settles one more link of every chain of displacements.
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
    """The runs of unions of instances; ``owner`` (N,) says to which union each instance belongs."""
    owner = owner[runs.owner]
    offset = owner * (num_places + 1)  # keeps the last run of a union apart from the first run of the next
    order = np.argsort(runs.start + offset, kind='stable')
    start, end = (runs.start + offset)[order], np.maximum.accumulate((runs.start + runs.length + offset)[order])
    opens = np.append(True, start[1:] > end[:-1])
    closes = np.append(opens[1:], True)
    start, end, owner, offset = start[opens], end[closes], owner[order][opens], offset[order][opens]
    return Runs(owner, start - offset, end - start)
