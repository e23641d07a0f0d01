import numpy as np
import pytest
from drawn_cells import HEIGHT, WIDTH, draw_masks, make_cells, make_source
from skimage.color import rgb2hed
from skimage.measure import regionprops

from cellseg_mm.export import measure_cells, measurements


@pytest.mark.parametrize('block', [1024, 32])
def test_measurements_are_those_of_regionprops_on_full_bitmaps(block, monkeypatch):
    monkeypatch.setattr(measurements, 'BLOCK', block)
    masks, source = draw_masks(), make_source()
    image = source.read(0, 0, WIDTH, HEIGHT)
    colors = np.dstack([rgb2hed(image)[..., :2] * 6, image.mean(axis=2)])
    measured = measure_cells(make_cells(masks), source)
    for index, mask in enumerate(masks):
        (region,) = regionprops(mask.astype(np.uint8), colors)
        centroid_y, centroid_x = region.centroid
        expected = [
            centroid_x + 0.5,
            centroid_y + 0.5,
            region.area,
            region.perimeter,
            region.eccentricity,
            region.solidity,
        ]
        expected += region.intensity_mean.tolist()
        assert [values[index] for values in measured.values()] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_image_is_read_once_a_block_and_only_around_its_cells(monkeypatch):
    monkeypatch.setattr(measurements, 'BLOCK', 128)
    source = make_source()
    measure_cells(make_cells(draw_masks()), source)
    assert len(source.windows_read) == 4  # the cells begin in four of five squares
    assert sum(width * height for width, height in source.windows_read) < 0.5 * HEIGHT * WIDTH


def test_a_stain_laid_on_in_a_known_density_is_measured():
    # vectors of Ruifrok and Johnston (2001) for hematoxylin and eosin
    density = 0.6 * np.array([0.65, 0.70, 0.29]) + 0.25 * np.array([0.07, 0.99, 0.11])
    image = np.full((20, 20, 3), np.round(255 * 10**-density), np.uint8)
    measured = measure_cells(make_cells(np.ones((1, 20, 20), bool)), make_source(image))
    assert measured['hematoxylin_od'] == pytest.approx([0.6], abs=0.01)
    assert measured['eosin_od'] == pytest.approx([0.25], abs=0.01)


def test_a_pixel_size_adds_micrometres():
    cells, source = make_cells(draw_masks()), make_source()
    in_px, measured = measure_cells(cells, source), measure_cells(cells, source, pixel_size=0.25)
    assert in_px.keys() == {name for name in measured if '_um' not in name}
    assert np.array_equal(measured['area_um2'], measured['area_px'] / 16)
    for name in ('centroid_x', 'centroid_y', 'perimeter'):
        assert np.array_equal(measured[f'{name}_um'], measured[f'{name}_px'] / 4)


def test_a_cell_without_a_pixel_has_no_area_and_nothing_else():
    measured = measure_cells(make_cells(np.zeros((1, 9, 9), bool)), make_source())
    assert measured.pop('area_px') == [0]
    assert all(np.isnan(values).tolist() == [True] for values in measured.values())
