"""Densities against closed forms; the picture that shows them."""

import cv2
import numpy as np
import pytest
from drawn_cells import CLASSES, draw_masks, make_cells, make_source

from cellseg_mm.export import density, export_cells, overview
from cellseg_mm.export.density import count_by_place, density_grid, density_per_area, density_unit
from cellseg_mm.images import ArraySource
from cellseg_mm.structures import Cells, Runs


@pytest.mark.parametrize(
    ('height', 'width', 'rows', 'columns'),
    [
        (1280, 2560, 10, 20),
        (1300, 2500, 10, 20),  # equal parts, with nothing left over
        (8, 40, 1, 1),
        (100, 20_000, 1, 128),  # of 156 px
        (100_000, 50_000, 128, 64),
    ],
)
def test_rectangles_are_nearly_squares_and_few(height, width, rows, columns):
    assert density_grid(height, width) == (rows, columns)


def test_counts_are_those_of_cells_planted_in_each_rectangle():
    rng = np.random.default_rng(0)
    height, width = 700, 1900
    shape = 3, *density_grid(height, width)
    planted = rng.integers(0, 4, shape)
    labels, row, column = np.repeat(np.stack(np.nonzero(planted + 1)), planted.ravel(), axis=1)
    sides = np.array([width / shape[2], height / shape[1]])
    centroids = (np.stack([column, row], axis=1) + rng.random((len(labels), 2))) * sides
    order = rng.permutation(len(labels))
    parts = np.array_split(order, 7)
    counts = sum(count_by_place(centroids[part], labels[part], 3, height, width) for part in parts)
    assert np.array_equal(counts, planted)


def test_the_last_pixels_belong_to_the_last_rectangles():
    counts = count_by_place(np.array([[1900.0, 700.0], [0, 0]]), np.array([0, 0]), 1, 700, 1900)
    assert counts[0, -1, -1] == counts[0, 0, 0] == 1


@pytest.mark.parametrize(('pixel_size', 'area'), [(None, 1.3 / 40), (0.5, 1.3 / 40 / 4)])
def test_density_is_the_count_over_the_area(pixel_size, area):
    """1,000 x 1,300 px in 40 rectangles."""
    counts = np.arange(80).reshape(2, 8, 5)
    found = density_per_area(counts, 1000, 1300, pixel_size)
    assert found == pytest.approx(counts / area)
    assert (found * area).sum() == pytest.approx(counts.sum())


def test_the_unit_says_how_large_the_squares_are():
    counts = np.zeros((2, 8, 8))
    assert density_unit(counts, 1024, 1024, 0.25) == 'cells per mm², in squares of 32 µm'
    assert density_unit(counts, 1024, 1024, None) == 'cells per megapixel, in squares of 128 px'


def test_the_overview_shows_the_densities_and_counts_of_all_parts(tmp_path, monkeypatch):
    """Cells of one px: one in each of the first four rectangles, ten in the last."""
    shown = {}
    monkeypatch.setattr(overview, 'plot_density', lambda *args: shown.update(enumerate(args)) or PLOT(*args))
    height, width = 256, 512
    x = np.array([10, 140, 270, 400, *range(500, 510)])
    y = np.array([5, 6, 7, 8, *[250] * 10])
    cells = Cells(
        Runs(np.arange(14), x * height + y, np.ones(14, int)), np.array([0] * 4 + [1] * 10), np.ones(14), height, width
    )
    source = ArraySource(np.full((height, width, 3), 255, np.uint8), 0.5, name='$x$.svs')
    parts = (cells.select(part) for part in np.array_split(np.arange(14), 3))
    summary = export_cells(parts, source, tmp_path, 'cut', ['overview'], ['a', 'b$'])
    thumbnail, found, counts, classes, title, unit = shown.values()
    assert thumbnail.shape == (256, 512, 3) and counts == [4, 10] and classes == ['a', 'b$']
    per_cell = 1 / (128 * 0.5 / 1000) ** 2
    expected = np.array([[[1, 1, 1, 1], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 10]]]) * per_cell
    assert found == pytest.approx(expected)
    assert title == '$x$.svs: 14 cells; 512 x 256 px, 0.256 x 0.128 mm' and unit.startswith('cells per mm²')
    assert summary['cells'] == 14 and cv2.imread(str(tmp_path / 'cut_overview.png')) is not None


PLOT = overview.plot_density


@pytest.mark.parametrize('parts', [[], [draw_masks()]])
def test_the_overview_of_any_image_is_drawn(parts, tmp_path):
    export_cells(map(make_cells, parts), make_source(), tmp_path, 'cut', ['overview'], CLASSES)
    assert cv2.imread(str(tmp_path / 'cut_overview.png')).std() > 10


def test_memory_does_not_grow_with_the_number_of_cells():
    assert density.MAX_RECTANGLES == 128
    few, many = (count_by_place(np.zeros((n, 2)), np.zeros(n, int), 4, 40_000, 40_000) for n in (1, 10_000))
    assert few.nbytes == many.nbytes == 4 * 128 * 128 * 8
