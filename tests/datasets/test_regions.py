import numpy as np
import pytest

from cellseg_mm.datasets.formats.rasterize import rasterize
from cellseg_mm.datasets.formats.regions import Contents, find_regions, find_rules, look_inside, region_notes

SIDE = 100


def square(x, y, side):
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], float)


def contents(*objects):
    """Of (name, square, is it to be ignored)."""
    rings = [ring for _, ring, *_ in objects]
    runs = rasterize(rings, list(range(len(rings))), [False] * len(rings), SIDE, SIDE)
    ignored = [bool(rest and rest[0]) for _, _, *rest in objects]
    return look_inside(runs, [name for name, *_ in objects], ignored, [True] * len(objects), SIDE)


CELLS = [('cell', square(10 + 20 * place, 10, 8)) for place in range(3)]


@pytest.mark.parametrize(
    'ring, enclosed',
    [
        (square(5, 5, 60), 3),  # around all three
        (square(5, 5, 40), 2),  # around two, and 25 times as large as each
        (square(9, 9, 12), 0),  # around one, as a cell is around its nucleus
        (square(14, 5, 50), 2),  # a third of the first lies outside
        (square(5, 30, 60), 0),  # beside them
    ],
)
def test_what_encloses_cells_is_a_region(ring, enclosed):
    image = contents(*CELLS, ('cell', ring))
    assert image.areas.tolist() == [64, 64, 64, (ring[2, 0] - ring[0, 0]) ** 2]
    assert image.enclosed.tolist() == [0, 0, 0, enclosed]
    assert find_regions(image, find_rules([image])).tolist() == [False, False, False, enclosed > 0]


def test_a_frame_is_no_region_of_what_lies_in_its_hole():
    """A ring of tissue around cells has none of their pixels."""
    rings = [ring for _, ring in CELLS] + [square(0, 0, 90), square(2, 2, 86)]
    runs = rasterize(rings, [0, 1, 2, 3, 3], [False] * 4 + [True], SIDE, SIDE)
    assert look_inside(runs, ['cell'] * 4, [False] * 4, [True] * 4, SIDE).enclosed.tolist() == [0, 0, 0, 0]


def test_the_set_decides_about_a_class():
    """A field without a cell is of the class of fields; one without a class is found by its size."""
    around, empty = square(5, 5, 60), square(5, 5, 70)
    full = contents(*CELLS, ('field', around))
    for name in ('field', 'cell'):
        image = contents((name, empty))
        rules = find_rules([full, full, image])
        assert rules.cell_area == 64 and rules.classes == {'field'}
        assert find_regions(image, rules).all()
    assert not find_regions(contents(('cell', empty)), find_rules([contents(*CELLS)])).any()  # a set without regions


@pytest.mark.parametrize(
    'name, ring, is_region',
    [
        ('Region*', square(5, 5, 60), True),
        ('Region*', square(5, 30, 60), True),  # QuPath's own class of fields, whatever is in it
        ('Field*', square(5, 5, 40), True),
        ('Ignore*', square(5, 30, 60), False),
        ('Ignore*', square(5, 5, 60), True),  # around all cells
        ('Ignore*', square(25, 5, 40), False),  # around two of eight
    ],
)
def test_regions_to_ignore_that_enclose_cells_are_fields(name, ring, is_region):
    more = [('cell', square(10 + 15 * place, 80, 8)) for place in range(5)] if ring[0, 0] == 25 else []
    other = contents(('Ignore*', square(0, 0, 9), True), ('Ignore*', square(0, 50, 9), True))
    image = contents(*CELLS, *more, (name, ring, True))
    rules = find_rules([image, other])
    assert find_regions(image, rules).tolist() == [False] * (3 + len(more)) + [is_region]
    notes = region_notes(image, find_regions(image, rules))
    assert sum(notes.values()) == (is_region or 2 * bool(more))


def test_of_nothing():
    rules = find_rules([])
    nothing = Contents([], np.zeros(0, bool), np.zeros(0, int), np.zeros(0, int))
    assert not rules.classes and rules.least_area == np.inf and find_regions(nothing, rules).shape == (0,)
