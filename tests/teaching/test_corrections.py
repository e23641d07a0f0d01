import json

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from cellseg_mm.structures import Cells
from cellseg_mm.teaching.corrections import Corrections, next_cell
from cellseg_mm.utils import UserError


def square(x, y, side, size=(40, 60)):
    mask = np.zeros(size, np.uint8, order='F')
    mask[y : y + side, x : x + side] = 1
    code = mask_utils.encode(mask)
    return dict(size=list(size), counts=code['counts'].decode())


@pytest.fixture
def found():
    """A large cell, a small one on it, and one apart."""
    codes = [square(0, 0, 20), square(5, 5, 4), square(40, 10, 8)]
    return Corrections(Cells.from_codes(codes, [0, 1, 0], [0.9, 0.8, 0.7], 40, 60), ('a', 'b'))


def test_each_kind_of_step(found):
    steps = (
        found.after(kind='class', name=' new  one ').after(kind='name', cell=2, label=2).after(kind='delete', cell=1)
    )
    steps = steps.after(kind='add', code=square(30, 30, 5), label=1).after(kind='rename', label=0, name='c')
    state = steps.state()
    assert state.classes == ('c', 'b', 'new one')
    assert state.left().labels.tolist() == [0, 2, 1]
    assert state.corrected.tolist() == [False, False, True, True]
    assert state.left().codes()[2]['counts'] == square(30, 30, 5)['counts']
    assert steps.undone().undone().state().alive.tolist() == [True, False, True]
    assert found.steps == ()


def test_a_click_takes_the_smallest_cell_that_is_left(found):
    assert found.state().at(6.9, 5.1) == 1 and found.state().at(3, 3) == 0
    assert found.after(kind='delete', cell=1).state().at(6.9, 5.1) == 0
    assert found.state().at(30, 30) is None and found.state().at(-1, 5) is None and found.state().at(60, 5) is None


def test_cells_in_reading_order(found):
    state = found.after(kind='delete', cell=1).state()
    assert next_cell(state, None, 1) == 0 and next_cell(state, 0, 1) == 2 and next_cell(state, 2, 1) == 0
    assert next_cell(state, None, -1) == 2


def test_through_json(found):
    steps = found.after(kind='name', cell=0, label=1).after(kind='add', code=square(30, 30, 5), label=1)
    again = Corrections.from_dict(json.loads(json.dumps(steps.to_dict())))
    assert again.steps == steps.steps and again.classes == steps.classes
    assert again.state().left().codes() == steps.state().left().codes()


@pytest.mark.parametrize(
    ('step', 'message'),
    [
        (dict(kind='name', cell=3, label=0), 'no cell 4'),
        (dict(kind='name', cell=0, label=2), 'no class 2'),
        (dict(kind='class', name='  '), 'class name'),
        (dict(kind='class', name='b'), 'taken'),
        (dict(kind='class', name='B'), 'taken'),
        (dict(kind='rename', label=0, name='x' * 61), '1 to 60'),
    ],
)
def test_wrong_steps(found, step, message):
    with pytest.raises(UserError, match=message):
        found.after(**step)


def test_a_deleted_cell_takes_no_step(found):
    with pytest.raises(UserError, match='no cell 2'):
        found.after(kind='delete', cell=1).after(kind='name', cell=1, label=0)
