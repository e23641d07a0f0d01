import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_mm.inference import TileGrid, is_blank
from cellseg_mm.utils import UserError


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(96, 1100), st.data())
def test_tiles_cover_the_image_with_the_overlap_and_no_more_than_it_asks_for(height, width, tile_size, data):
    overlap = data.draw(st.integers(32, tile_size // 3))
    grid = TileGrid.cover(height, width, tile_size, overlap)
    for axis, length in enumerate((width, height)):
        starts, size = grid.along(axis)
        assert starts[0] == 0 and starts[-1] + size == length and size <= tile_size
        assert (starts[:-1] + size - starts[1:] >= overlap).all()
        # no pixel in three tiles of a row
        assert (starts[2:] >= starts[:-2] + size).all()
        count = len(starts)
        assert count == 1 or (count - 1) * (tile_size - overlap) + overlap < length  # one less would not reach
        assert count * size - (count - 1) * overlap < length + count  # and they are no larger than needed
    windows = [grid.window(index) for index in range(len(grid))]
    assert windows == [(x, y, grid.tile_width, grid.tile_height) for y in grid.ys for x in grid.xs]


@pytest.mark.parametrize(('tile_size', 'overlap'), [(1024, 31), (300, 101), (2**15 + 1, 128), (0, 0)])
def test_an_impossible_tiling_is_refused(tile_size, overlap):
    with pytest.raises(UserError, match=f'tiles of {tile_size} px with an overlap of {overlap} px'):
        TileGrid.cover(5000, 5000, tile_size, overlap)


def test_glass_is_blank_and_one_pale_nucleus_on_it_is_not():
    rng = np.random.default_rng(0)
    glass = np.clip(rng.normal(238, 4, (200, 150, 3)), 0, 255).astype(np.uint8)
    assert is_blank(glass)
    rows, cols = np.ogrid[:200, :150]
    for x, y in rng.integers(5, 145, (50, 2)):
        image = glass.copy()
        image[(rows - y) ** 2 + (cols - x) ** 2 <= 5**2] = (225, 205, 230)
        assert not is_blank(image)


def test_what_is_dark_is_not_blank():
    assert not is_blank(np.zeros((100, 100, 3), np.uint8))
