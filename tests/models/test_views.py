import itertools

import mmcv
import numpy as np
import pytest
import torch
from mmdet.structures.mask import encode_mask_results

from cellseg_mm.models.test_time_augs import View
from cellseg_mm.structures import Cells

VIEWS = list(itertools.product([False, True], range(4)))


def to_cells(bitmaps):
    """From (N, H, W) bool, with labels and scores that differ between cells."""
    codes = encode_mask_results(bitmaps)
    number = np.arange(len(bitmaps))
    return Cells.from_codes(codes, number, number / 100, *bitmaps.shape[1:])


def random_bitmaps(height, width):
    """Of all kinds: dense and thin ones, a single pixel in each corner, none, all, and whole columns."""
    rng = np.random.default_rng([height, width])
    bitmaps = [rng.random((height, width)) < density for density in (0.1, 0.5, 0.9)]
    bitmaps += [np.zeros((height, width), bool) for _ in range(6)]
    for bitmap, corner in zip(bitmaps[3:], itertools.product([0, -1], repeat=2), strict=False):
        bitmap[corner] = True
    bitmaps[7][:, width // 2 :] = True
    bitmaps.append(np.ones((height, width), bool))
    return np.stack(bitmaps)


@pytest.mark.parametrize('flip, turns', VIEWS)
@pytest.mark.parametrize('size', [(7, 12), (5, 5), (1, 6), (9, 1)])
def test_cells_of_a_view_come_back_to_where_the_image_has_them(flip, turns, size):
    bitmaps = random_bitmaps(*size)
    view = View(flip, turns)
    seen = np.stack([np.rot90(np.fliplr(bitmap) if flip else bitmap, turns) for bitmap in bitmaps])
    np.testing.assert_array_equal(view.apply(torch.from_numpy(bitmaps.astype(np.uint8))).numpy(), seen)
    restored, expected = view.restore(to_cells(seen)), to_cells(bitmaps)
    assert (restored.height, restored.width) == size
    assert restored.codes() == expected.codes()
    np.testing.assert_array_equal(restored.labels, expected.labels)
    np.testing.assert_array_equal(restored.scores, expected.scores)


def test_no_cell_comes_back():
    assert len(View(True, 1).restore(to_cells(np.zeros((0, 4, 6), bool)))) == 0


@pytest.mark.parametrize('scale, size', [(2, (14, 22)), (0.5, (4, 6)), (0.01, (1, 1))])
def test_scaled_views_are_those_of_the_resize_transform(scale, size):
    image = np.random.default_rng(0).integers(0, 256, (7, 11, 3)).astype(np.uint8)
    seen = View(flip=True, scale=scale).apply(torch.from_numpy(image).permute(2, 0, 1))
    expected = mmcv.imresize(image[:, ::-1], size[::-1])
    np.testing.assert_array_equal(seen.permute(1, 2, 0).numpy(), expected)
