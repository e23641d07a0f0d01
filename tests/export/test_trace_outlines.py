import numpy as np
import pytest
import shapely
from drawn_cells import make_cells
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from cellseg_mm.export import trace_outlines


def covered(outline: object, height: int, width: int) -> np.ndarray:
    rows, cols = np.mgrid[:height, :width]
    return shapely.contains_xy(outline, cols + 0.5, rows + 0.5)


@settings(max_examples=300, deadline=None)
@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.booleans()))
def test_an_outline_is_valid_and_covers_the_pixels_of_its_mask_alone(masks):
    for mask, outline in zip(masks, trace_outlines(make_cells(masks)), strict=True):
        if not mask.any():
            assert outline is None
            continue
        assert shapely.is_valid(outline) and shapely.area(outline) == mask.sum()
        assert np.array_equal(covered(outline, *mask.shape), mask)
        parts = shapely.get_parts(outline)
        assert len(parts) == ndimage.label(mask)[1]  # 4-connected
        assert all(part.exterior.is_ccw and not any(hole.is_ccw for hole in part.interiors) for part in parts)
        assert shapely.get_num_coordinates(shapely.simplify(outline, 0)) == shapely.get_num_coordinates(outline)


@pytest.mark.parametrize(
    ('drawing', 'parts', 'holes'),
    [
        ('1', 1, 0),
        ('111 101 111', 1, 1),
        ('111 101 110', 1, 1),  # the hole touches the outside by a corner
        ('10 01', 2, 0),
        ('0110 1001 0110', 4, 0),  # what corners enclose is no part
        ('11111 10001 10101 10001 11111', 2, 1),  # an island in the hole
        ('1111 1011 1101 1111', 1, 2),  # holes that touch by a corner
    ],
)
def test_holes_and_parts_are_kept(drawing, parts, holes):
    mask = np.array([[pixel == '1' for pixel in row] for row in drawing.split()])
    (outline,) = trace_outlines(make_cells(mask[None]))
    assert outline.geom_type == ('Polygon' if parts == 1 else 'MultiPolygon')
    found = shapely.get_parts(outline)
    assert (len(found), shapely.get_num_interior_rings(found).sum()) == (parts, holes)
