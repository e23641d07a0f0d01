import numpy as np
import pytest
from mmdet.structures.mask import encode_mask_results
from pycocotools import mask as mask_utils

from cellseg_mm.structures import Cells

HEIGHT, WIDTH = 40, 30


def draw(seed: int, count: int = 7) -> tuple:
    """(N, H, W) bool masks, some of which overlap, touch the border, have a hole or no pixel, and their cells."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, HEIGHT, WIDTH), bool)
    for mask in masks[:-1]:
        y, x, h, w = rng.integers(0, [35, 25, 30, 20])
        mask[y : y + h + 1, x : x + w + 1] = rng.random((HEIGHT, WIDTH))[y : y + h + 1, x : x + w + 1] < 0.8
    codes = encode_mask_results(masks)
    scores = rng.random(count).astype(np.float32)
    return masks, Cells.from_codes(codes, np.arange(count) % 4, scores, HEIGHT, WIDTH)


def decode(cells: Cells) -> np.ndarray:
    return mask_utils.decode(cells.codes()).transpose(2, 0, 1).astype(bool)


@pytest.mark.parametrize('seed', range(5))
def test_boxes_and_windows_are_those_of_the_bitmaps(seed):
    masks, cells = draw(seed)
    for mask, box, (window, x, y) in zip(masks, cells.boxes(), cells.windows(), strict=True):
        rows, cols = np.nonzero(mask)
        if not len(rows):
            assert box.tolist() == [0, 0, 0, 0] and window.size == 0
            continue
        assert box.tolist() == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
        assert (x, y) == (cols.min(), rows.min())
        assert np.array_equal(window, mask[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1])


def test_a_run_over_the_end_of_a_column_is_two_columns_in_the_box():
    cells = Cells.from_codes(encode_mask_results(np.ones((1, 3, 2))), [0], [1.0], 3, 2)
    assert cells.boxes().tolist() == [[0, 0, 2, 3]]
    assert [window.tolist() for window, _, _ in cells.windows()] == [np.ones((3, 2), bool).tolist()]


@pytest.mark.parametrize('index', [[4, 0, 6, 2], [], np.array([True, False] * 3 + [True])])
def test_select_keeps_masks_labels_and_scores_in_the_order_asked_for(index):
    masks, cells = draw(0)
    chosen = np.arange(len(cells))[np.array(index, bool if len(index) == 7 else int)]
    selected = cells.select(chosen)
    assert np.array_equal(decode(selected), masks[chosen]) if len(chosen) else len(selected) == 0
    assert selected.labels.tolist() == cells.labels[chosen].tolist()
    assert selected.scores.tolist() == cells.scores[chosen].tolist()


def test_concatenate_undoes_select():
    masks, cells = draw(1)
    joined = Cells.concatenate([cells.select(np.arange(3)), cells.select([]), cells.select(np.arange(3, 7))])
    assert np.array_equal(decode(joined), masks)
    assert joined.labels.tolist() == cells.labels.tolist()


def test_the_higher_score_has_the_pixel():
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    masks[0, 5:15, 5:15] = masks[1, 5:15, 11:21] = True  # 40 of 100 px shared
    masks[2, 5:15, 6:16] = True  # all but 10 px within the first
    codes = encode_mask_results(masks)
    ids = Cells.from_codes(codes, [0, 0, 0], [0.8, 0.9, 0.1], HEIGHT, WIDTH).instance_map()
    assert np.bincount(ids.ravel(), minlength=4).tolist() == [HEIGHT * WIDTH - 160, 60, 100, 0]


@pytest.mark.parametrize('size', [(HEIGHT, WIDTH), (80, 60), (20, 15), (57, 101), (13, 7), (1, 1)])
def test_a_pixel_of_the_resized_masks_is_that_under_its_centre(size):
    masks, cells = draw(3)
    resized = cells.resize(*size)
    rows, cols = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, (HEIGHT, WIDTH), strict=True)
    )
    assert (resized.height, resized.width) == size and np.array_equal(resized.scores, cells.scores)
    assert np.array_equal(decode(resized), masks[:, rows[:, None], cols])
    assert (np.diff(resized.runs.owner) >= 0).all()


def test_a_mask_twice_as_large_has_its_centroid_at_twice_the_place():
    _, cells = draw(4)
    filled = cells.select(cells.areas() > 0)
    twice = filled.resize(2 * HEIGHT, 2 * WIDTH)
    assert np.allclose(2 * filled.centroids(), twice.centroids())
    assert (twice.areas() == 4 * filled.areas()).all()


def test_a_window_is_placed_in_its_image():
    masks, cells = draw(5)
    masks[-1] = True  # runs over the ends of columns
    last = Cells.from_codes(encode_mask_results(masks[-1:]), [2], [0.5], HEIGHT, WIDTH)
    cells = Cells.concatenate([cells.select(np.arange(6)), last])
    placed = cells.place(3, 7, HEIGHT + 20, WIDTH + 10)
    expected = np.pad(masks, ((0, 0), (7, 13), (3, 7)))
    assert np.array_equal(decode(placed), expected) and placed.labels.tolist() == cells.labels.tolist()


def test_areas_in_common_are_those_of_the_bitmaps(monkeypatch):
    (masks, cells), (others, other_cells) = draw(6), draw(7, count=5)
    pairs = np.argwhere(np.ones((7, 5), bool))
    expected = [(masks[one] & others[other]).sum() for one, other in pairs]
    assert sum(expected) > 0 and cells.shared_areas(other_cells, pairs).tolist() == expected
    monkeypatch.setattr('cellseg_mm.structures.cells.PAIRS_AT_A_TIME', 4)
    assert cells.shared_areas(other_cells, pairs[::-1]).tolist() == expected[::-1]
    assert cells.shared_areas(other_cells, pairs[:0]).tolist() == []
    assert cells.shared_areas(other_cells, np.array([[0, 4]])).tolist() == [0]  # with a cell without a pixel
