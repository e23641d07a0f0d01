import numpy as np
import pytest
from mmdet.structures.mask import encode_mask_results

from cellseg_mm.models.test_time_augs import MaskVotes
from cellseg_mm.structures import Cells

HEIGHT, WIDTH = 40, 51


def to_cells(bitmaps, labels, scores):
    return Cells.from_codes(encode_mask_results(bitmaps), labels, scores, HEIGHT, WIDTH)


def rectangle(x, y, width, height):
    bitmap = np.zeros((HEIGHT, WIDTH), bool)
    bitmap[y : y + height, x : x + width] = True
    return bitmap


def disc(x, y, radius):
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def merge(views, max_cells=1000):
    votes = MaskVotes(HEIGHT, WIDTH, max_cells)
    for cells in views:
        votes.add(cells)
    return votes.result()


def random_cells(seed):
    """Discs of two classes that overlap here and there, by falling score."""
    rng = np.random.default_rng(seed)
    bitmaps = [disc(*rng.uniform(0, (WIDTH, HEIGHT)), rng.uniform(1, 12)) for _ in range(25)]
    scores = np.sort(rng.uniform(0.01, 1, 25).astype(np.float32))[::-1]
    return to_cells(bitmaps, rng.integers(0, 2, 25), scores)


def assert_equal_cells(cells, expected):
    assert cells.codes() == expected.codes()
    np.testing.assert_array_equal(cells.labels, expected.labels)
    np.testing.assert_array_equal(cells.scores, expected.scores)
    assert (cells.scores.dtype, cells.height, cells.width) == (np.float32, HEIGHT, WIDTH)


@pytest.mark.parametrize('count', [1, 2, 3, 8])
def test_equal_views_give_the_very_cells_of_one(count):
    cells = random_cells(0)
    assert_equal_cells(merge([cells] * count), cells)


def test_a_cell_keeps_the_share_of_views_that_found_it():
    bitmap, far = disc(20, 20, 8), disc(42, 8, 5)
    found, nothing = to_cells([bitmap], [1], [0.5]), to_cells([], [], [])
    other = to_cells([far], [0], [0.25])
    merged = merge([nothing, found, found, nothing, other, found, nothing, nothing])
    assert_equal_cells(merged, to_cells([bitmap, far], [1, 0], [0.5 * 3 / 8, 0.25 / 8]))


def test_one_place_of_two_classes_is_two_cells():
    bitmap = disc(20, 20, 8)
    view = to_cells([bitmap, bitmap], [0, 1], [0.6, 0.4])
    one_class = to_cells([bitmap], [1], [0.8])
    assert_equal_cells(merge([view, one_class]), to_cells([bitmap, bitmap], [1, 0], [0.6, 0.3]))


@pytest.mark.parametrize('shift, count', [(3, 1), (4, 2)])
def test_masks_of_half_the_iou_are_one_cell(shift, count):
    """Rectangles 10 px wide have an IoU of (10 - shift) / (10 + shift): 7/13 and 6/14."""
    views = [to_cells([rectangle(10 + offset, 10, 10, 6)], [0], [0.5]) for offset in (0, shift)]
    merged = merge(views)
    assert len(merged) == count
    if count == 1:  # half of the votes is enough
        assert merged.codes() == to_cells([rectangle(10, 10, 13, 6)], [0], [0]).codes()


def test_masks_are_the_weighted_majority_of_shifted_discs():
    shifts, weights = (-2, -1, 0, 1, 2), np.float32([0.9, 0.3, 0.55, 0.8, 0.1])
    bitmaps = [disc(20 + shift, 18, 9) for shift in shifts]
    merged = merge([to_cells([bitmap], [0], [weight]) for bitmap, weight in zip(bitmaps, weights, strict=True)])
    majority = np.tensordot(weights, bitmaps, axes=1) >= weights.sum() / 2
    assert not any((majority == bitmap).all() for bitmap in bitmaps)
    assert_equal_cells(merged, to_cells([majority], [0], [weights.astype(np.float64).mean()]))


def test_touching_cells_never_merge():
    """Two halves of a square, whose border lies elsewhere in each view; and a whole one, which only one can be."""
    views = []
    for border in (10, 12, 8, 11):
        halves = [rectangle(10, 10, border, 20), rectangle(10 + border, 10, 20 - border, 20)]
        views.append(to_cells(halves, [0, 0], [0.8, 0.7]))
    merged = merge([*views, to_cells([rectangle(10, 10, 20, 20)], [0], [0.6])])
    left, right, *rest = merged.instance_map(min_visible=0).T[[10, 29], 10]
    assert left != right and left and right and not rest
    # the whole one is half of the first to come at best, and then goes with it or stands alone
    np.testing.assert_allclose(merged.scores[:2], [0.64, 0.56] if len(merged) == 3 else [0.64 + 0.12, 0.56], rtol=1e-6)


def test_overlapping_cells_of_a_view_stay_two():
    """IoU 0.6, so that each is like the other as well."""
    first, second = rectangle(10, 10, 16, 10), rectangle(14, 10, 16, 10)
    view = to_cells([first, second], [0, 0], [0.9, 0.6])
    assert_equal_cells(merge([view, view.select([1, 0]), view]), view)


def test_the_best_pair_is_matched_first():
    """The second view's cells both fit the first's, and the one of lower score fits better."""
    cell, better, worse = rectangle(10, 10, 10, 10), rectangle(10, 10, 10, 9), rectangle(10, 10, 10, 7)
    merged = merge([to_cells([cell], [0], [0.5]), to_cells([worse, better], [0, 0], [0.9, 0.3])])
    np.testing.assert_allclose(merged.scores, [0.45, 0.4], rtol=1e-6)
    assert merged.select([0]).codes() == to_cells([worse], [0], [0]).codes()


def test_the_best_cells_are_kept():
    many = [disc(x, y, 2) for x in range(3, 50, 8) for y in range(3, 38, 8)]
    many = to_cells(many, np.zeros(len(many)), np.full(len(many), 0.2))
    few = to_cells([disc(3, 3, 2), disc(3, 11, 2)], [0, 0], [0.5, 0.4])
    merged = merge([many, few, many], max_cells=4)
    np.testing.assert_allclose(merged.scores, [0.3, 0.8 / 3, 0.4 / 3, 0.4 / 3], rtol=1e-6)


def test_cells_without_a_pixel_are_left_out():
    view = to_cells([rectangle(0, 0, 0, 0), disc(9, 9, 3)], [0, 0], [0.9, 0.5])
    assert_equal_cells(merge([view, view]), to_cells([disc(9, 9, 3)], [0], [0.5]))
    assert len(merge([])) == 0
