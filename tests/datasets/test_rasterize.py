import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils
from skimage.draw import polygon2mask

from cellseg_mm.datasets.formats.rasterize import MAX_LAYERS, instances_from_outlines, rasterize
from cellseg_mm.utils import UserError

HEIGHT, WIDTH = 20, 30


def to_mask(*rings, holes=()):
    """(H, W) bool of one instance."""
    runs = rasterize(
        [np.array(ring, float).reshape(-1, 2) for ring in (*rings, *holes)],
        [0] * (len(rings) + len(holes)),
        [False] * len(rings) + [True] * len(holes),
        HEIGHT,
        WIDTH,
    )
    flat = np.zeros(HEIGHT * WIDTH, int)
    np.add.at(flat, runs.places(), 1)
    assert flat.max() <= 1  # no pixel twice
    return flat.reshape(WIDTH, HEIGHT).T > 0


def rectangle(x1, y1, x2, y2):
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def block(x1, y1, x2, y2):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def test_outlines_on_pixel_edges_give_these_pixels():
    assert np.array_equal(to_mask(rectangle(3, 4, 8, 6)), block(3, 4, 8, 6))
    assert np.array_equal(to_mask(rectangle(3, 4, 8, 6)[::-1]), block(3, 4, 8, 6))  # whatever its direction
    assert np.array_equal(to_mask([*rectangle(3, 4, 8, 6), [3, 4]]), block(3, 4, 8, 6))  # closed or not


def test_a_pixel_belongs_to_what_its_centre_lies_in():
    assert np.array_equal(to_mask(rectangle(2.51, 2.49, 7.51, 5.49)), block(3, 2, 8, 5))
    # of centres on the edge those at the left and above are inside, at the right and below outside
    assert np.array_equal(to_mask(rectangle(2.5, 2.5, 7.5, 5.5)), block(2, 2, 7, 5))


def test_a_triangle_in_closed_form():
    rows, cols = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    assert np.array_equal(to_mask([[0, 0], [18.2, 0], [0, 18.2]]), cols + rows < 18.2)


def test_holes_parts_and_loops():
    ring, hole, island = rectangle(2, 2, 14, 14), rectangle(4, 4, 12, 12), rectangle(6, 6, 9, 9)
    expected = block(2, 2, 14, 14) & ~block(4, 4, 12, 12) | block(6, 6, 9, 9)
    assert np.array_equal(to_mask(ring, island, holes=[hole]), expected)
    assert np.array_equal(to_mask(ring, island, holes=[hole[::-1]]), expected)
    parts = rectangle(2, 2, 8, 8), rectangle(6, 6, 12, 12)[::-1]
    assert np.array_equal(to_mask(*parts), block(2, 2, 8, 8) | block(6, 6, 12, 12))
    twice_around = rectangle(2, 2, 8, 8) + rectangle(2, 2, 8, 8)
    assert np.array_equal(to_mask(twice_around), block(2, 2, 8, 8))


def test_a_figure_of_eight_whose_loops_cancel_keeps_both():
    """Its signed area is 0."""
    ring = np.array([[5, 5], [17, 17], [17, 5], [5, 17]], float)
    across, down = np.abs(np.mgrid[:WIDTH, :HEIGHT] + 0.5 - 11).transpose(0, 2, 1)
    mask = to_mask(ring)
    assert mask[(across < 6) & (down < across)].all() and not mask[(across > 6) | (down > across)].any()
    code = mask_utils.frPyObjects([ring.ravel().tolist()], HEIGHT, WIDTH)
    assert mask.sum() == mask_utils.area(code)[0]


def test_what_lies_outside_is_cut_off():
    assert np.array_equal(to_mask(rectangle(-50, -3.2, 5, 1e9)), block(0, 0, 5, HEIGHT))
    assert not to_mask(rectangle(40, 2, 50, 9)).any() and not to_mask(rectangle(2, -9, 9, -1)).any()
    assert not to_mask([]).any() and not to_mask([[1, 1], [9, 9]]).any() and not to_mask(rectangle(2, 2, 2, 9)).any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 35), st.floats(-5, 25)), min_size=3, max_size=9), st.integers(0, 2**32 - 1))
def test_equal_to_scikit_image_where_no_centre_is_on_an_edge(points, seed):
    centre = np.mean(points, axis=0)
    ring = np.array(sorted(points, key=lambda point: np.arctan2(*(np.array(point) - centre)[::-1])))
    ring += np.random.default_rng(seed).uniform(0.001, 0.01, ring.shape)  # off the centres
    if shapely.Polygon(ring).is_valid:
        assert np.array_equal(to_mask(ring), polygon2mask((HEIGHT, WIDTH), ring[:, ::-1] - 0.5))


def test_neighbours_share_no_pixel_and_leave_none_between_them():
    """A tiling by triangles, many corners and edges of which run through centres."""
    rng = np.random.default_rng(0)
    points = np.concatenate(
        [
            rng.integers(0, 61, (60, 2)) / 2 * (1, 20 / 30),
            rng.integers(0, 31, (40, 2)),
            [[0, 0], [30, 0], [0, 20], [30, 20]],
        ]
    )
    triangles = shapely.get_parts(shapely.delaunay_triangles(shapely.multipoints(points)))
    rings = [shapely.get_coordinates(triangle) for triangle in triangles]
    hull = shapely.union_all(triangles)
    runs = rasterize(rings, list(range(len(rings))), [False] * len(rings), HEIGHT, WIDTH)
    count = np.bincount(runs.places(), minlength=HEIGHT * WIDTH).reshape(WIDTH, HEIGHT).T
    assert count.max() == 1
    rows, cols = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    assert np.array_equal(count > 0, shapely.covers(hull, shapely.points(cols, rows)))


def test_overlapping_cells_lose_nothing_and_empty_ones_are_counted():
    cells = [
        (2, False, [(np.array(rectangle(*box), float), False)])
        for box in ((2, 2, 9, 9), (40, 2, 50, 9), (5, 5, 12, 12))
    ]
    cells.append((0, True, [(np.array(rectangle(20, 2, 25, 9), float), False)]))
    instances = instances_from_outlines(cells, HEIGHT, WIDTH, 'x')
    assert instances.layers.shape == (2, HEIGHT, WIDTH) and instances.left_out == 1
    assert instances.labels.tolist() == [2, 2, 0] and instances.is_ignored.tolist() == [False, False, True]
    for number, box in enumerate([(2, 2, 9, 9), (5, 5, 12, 12), (20, 2, 25, 9)], start=1):
        assert np.array_equal((instances.layers == number).any(axis=0), block(*box))


def test_refusals():
    far = [(1, False, [(np.array(rectangle(40, 2, 50, 9), float), False)])]
    with pytest.raises(UserError, match='x: 1 of its 1 outlines have no pixel in the image of 30x20 px'):
        instances_from_outlines(far, HEIGHT, WIDTH, 'x')
    copies = [(1, False, [(np.array(rectangle(2, 3, 9, 9), float), False)])] * (MAX_LAYERS + 1)
    with pytest.raises(UserError, match='x: more than 64 instances over one another near x 2, y 3'):
        instances_from_outlines(copies, HEIGHT, WIDTH, 'x')
