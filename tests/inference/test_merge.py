import cv2
import numpy as np
import pytest
from planted import PlantedImage, blurred_oracle, oracle, plant_cells, planted_ids

from cellseg_mm.inference import TileGrid, merge_tiles
from cellseg_mm.inference.merge import _unite
from cellseg_mm.structures import Cells, Runs, encode_instances


def merge(ids, detector, tile_size, overlap):
    image, grid = PlantedImage(ids), TileGrid.cover(*ids.shape, tile_size, overlap)
    tiles = (detector([image.read(*grid.window(index))])[0] for index in range(len(grid)))
    return Cells.concatenate(list(merge_tiles(grid, tiles)))


def test_ten_thousand_cells_come_back_once_and_whole():
    ids = plant_cells(size=2500, pitch=21, seed=0, large=60, span=(50, 600))
    starts, size = TileGrid.cover(2500, 2500, 256, 64).along(0)
    seams = [*starts[1:], *(starts[:-1] + size - 1)]
    assert ids.max() > 10_000 and len(np.unique([ids[seams], ids[:, seams].T])) > 4_000
    cells = merge(ids, oracle, 256, 64)
    found = planted_ids(cells, ids)
    assert sorted(found) == list(range(1, ids.max() + 1))
    assert np.array_equal(cells.labels, found % 4)


@pytest.mark.parametrize('seed', range(4))
def test_so_do_those_of_other_sizes_in_other_tilings(seed):
    rng = np.random.default_rng(seed)
    tile_size = int(rng.integers(110, 400))
    span = (20, int(rng.integers(30, 700)))
    ids = plant_cells(int(rng.integers(600, 900)), int(rng.integers(8, 40)), seed, int(rng.integers(0, 50)), span)
    cells = merge(ids, oracle, tile_size, int(rng.integers(32, tile_size // 3 + 1)))
    assert sorted(planted_ids(cells, ids)) == list(range(1, ids.max() + 1))


def test_a_detector_that_errs_still_gives_each_cell_once():
    ids = plant_cells(size=1100, pitch=30, seed=1, large=20, span=(40, 400))
    # no cell less than 10 px across, which moved by a pixel either way would not cover itself, and none at the image's
    # border, which this detector takes for a seam
    values, kernel = ids.astype(np.float32), np.ones((3, 3))
    inner = (cv2.erode(values, kernel) == ids) & (cv2.dilate(values, kernel) == ids)
    thick = np.unique(ids[cv2.distanceTransform(inner.astype(np.uint8), cv2.DIST_L2, 5) >= 4])
    at_border = np.concatenate([ids[[0, 1, -2, -1]].ravel(), ids[:, [0, 1, -2, -1]].ravel()])
    ids = np.where(np.isin(ids, thick) & ~np.isin(ids, at_border), ids, 0)
    planted = np.setdiff1d(ids, 0)
    assert len(planted) > 800

    cells = merge(ids, blurred_oracle, 256, 64)
    owner = np.repeat(cells.runs.owner, cells.runs.length)
    shared = np.zeros((len(cells), ids.max() + 1))
    np.add.at(shared, (owner, ids.T.ravel()[cells.runs.places()]), 1)
    areas = np.bincount(ids.ravel()), cells.areas()[:, None]
    iou = (shared / (areas[0] + areas[1] - shared))[:, 1:]
    assert sorted(iou.argmax(axis=1) + 1) == planted.tolist()
    assert (iou.max(axis=1) > 0.5).mean() > 0.998


# Rectangles in 300x300 px and four tiles of 182 px: columns and rows 118 to 181 are in two tiles.
GRID = TileGrid.cover(300, 300, 200, 64)


def in_tile(index, *rectangles):
    """The cells of a tile, given (x1, y1, x2, y2, label, score) in the image's pixels, half-open."""
    x, y, width, height = GRID.window(index)
    codes = []
    for x1, y1, x2, y2, *_ in rectangles:
        mask = np.zeros((height, width), np.int32)
        mask[max(y1 - y, 0) : max(y2 - y, 0), max(x1 - x, 0) : max(x2 - x, 0)] = 1
        codes += encode_instances(mask, 1)
    return Cells.from_codes(codes, [r[4] for r in rectangles], [r[5] for r in rectangles], height, width)


def merge_rectangles(*tiles):
    """(x1, y1, x2, y2, label, score) of what comes of four tiles' rectangles, None for one that was not looked at."""
    tiles = [None if tile is None else in_tile(index, *tile) for index, tile in enumerate(tiles)]
    parts = list(merge_tiles(GRID, tiles))
    if not parts:
        return []
    cells = Cells.concatenate(parts)
    assert (cells.boxes()[:, 2:] - cells.boxes()[:, :2]).prod(axis=1).tolist() == cells.areas().tolist()
    rows = zip(cells.boxes().tolist(), cells.labels.tolist(), cells.scores.tolist(), strict=True)
    return sorted((*box, label, round(score, 4)) for box, label, score in rows)


def test_four_pieces_over_a_corner_are_one_cell_with_the_best_ones_label_and_score():
    cell = (80, 90, 220, 210)
    tiles = [[(*cell, 0, 0.5)], [(*cell, 1, 0.75)], [(*cell, 0, 0.5)], [(*cell, 2, 0.25)]]
    assert merge_rectangles(*tiles) == [(*cell, 1, 0.75)]


def test_touching_neighbours_that_cross_the_same_seam_stay_two():
    upper, lower = (60, 20, 240, 50), (60, 50, 240, 80)
    tiles = [[(*upper, 0, 0.5), (*lower, 0, 0.5)]] * 2
    assert merge_rectangles(*tiles, [], []) == [(*upper, 0, 0.5), (*lower, 0, 0.5)]


def test_a_whole_piece_counts_before_a_cut_one_of_a_higher_score():
    # it ends 4 px before the first tile's border: too near for that tile to know better, so the two are compared
    cell = (118, 20, 178, 60)
    assert merge_rectangles([(*cell, 0, 0.25)], [(*cell, 1, 0.75)], [], []) == [(*cell, 0, 0.25)]


def test_two_tiles_that_differ_by_a_pixel_do_not_leave_a_cell_to_one_another():
    # each ends 1 px before its own tile's border and 2 px before the other's
    tiles = [[(120, 20, 181, 60, 0, 0.5)], [(119, 20, 180, 60, 0, 0.5)]]
    assert merge_rectangles(*tiles, [], []) == [(119, 20, 181, 60, 0, 0.5)]


def test_of_two_whole_pieces_the_higher_score_stays_whatever_the_labels():
    one, other = (130, 20, 160, 50), (131, 21, 161, 51)
    assert merge_rectangles([(*one, 0, 0.5)], [(*other, 3, 0.75)], [], []) == [(*other, 3, 0.75)]


def test_a_piece_that_is_displaced_displaces_none():
    # the second covers two thirds of the first and of the third, which share a third
    first, second, third = (130, 20, 160, 50), (140, 20, 170, 50), (150, 20, 180, 50)
    found = merge_rectangles([(*first, 0, 0.75)], [(*second, 0, 0.5)], [(*third, 0, 0.25)], [])
    assert found == [(*first, 0, 0.75)]
    found = merge_rectangles([(*first, 0, 0.75), (*third, 0, 0.25)], [(*second, 0, 0.5)], [], [])
    assert found == [(*first, 0, 0.75), (*third, 0, 0.25)]


def test_two_labels_of_one_tile_for_the_same_pixels_are_left_to_the_detector():
    cell = (130, 20, 160, 50)
    tiles = [[(*cell, 0, 0.75), (*cell, 1, 0.25)], [(*cell, 0, 0.5), (*cell, 1, 0.125)]]
    assert merge_rectangles(*tiles, [], []) == [(*cell, 0, 0.75), (*cell, 1, 0.25)]


def test_a_cut_piece_counts_only_where_no_tile_saw_more():
    sliver = (118, 20, 125, 40)
    assert merge_rectangles([], [(*sliver, 0, 0.9)], [], []) == []
    assert merge_rectangles(None, [(*sliver, 0, 0.5)], [], []) == [(*sliver, 0, 0.5)]


def test_cells_are_handed_out_while_later_tiles_are_still_to_come():
    ids = plant_cells(size=900, pitch=25, seed=0, large=0, span=(50, 60))
    image, grid = PlantedImage(ids), TileGrid.cover(900, 900, 256, 64)
    taken = []

    def tiles():
        for index in range(len(grid)):
            taken.append(index)
            yield oracle([image.read(*grid.window(index))])[0]

    for part in merge_tiles(grid, tiles()):
        # what is complete a row of tiles above is out
        row = taken[-1] // len(grid.xs)
        assert row == 0 or part.boxes()[:, 3].min() > grid.ys[row - 1]


def bitmaps(rng, count):
    masks = rng.random((count, 20, 30)) < rng.uniform(0.1, 0.9, (count, 1, 1))
    codes = [encode_instances(mask.astype(np.int32), 1)[0] for mask in masks]
    return masks, Cells.from_codes(codes, np.zeros(count), np.ones(count), 20, 30)


def test_unions_are_those_of_the_bitmaps():
    rng = np.random.default_rng(0)
    masks, cells = bitmaps(rng, 50)
    group = rng.permutation(np.arange(50) % 17)
    united = Cells(_unite(cells.runs, group, 600), np.zeros(17), np.ones(17), 20, 30)
    expected = [masks[group == number].any(axis=0).astype(np.int32) for number in range(17)]
    assert united.codes() == [encode_instances(mask, 1)[0] for mask in expected]


def test_a_union_does_not_run_on_into_the_next_instance():
    runs = Runs(*np.array([[0, 1], [90, 0], [10, 5]]))
    assert [values.tolist() for values in _unite(runs, np.arange(2), 100)] == [[0, 1], [90, 0], [10, 5]]
