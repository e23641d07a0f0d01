from types import SimpleNamespace

import pytest

from cellseg_mm.structures import Cells
from cellseg_mm.teaching.corrections import Corrections

pytest.importorskip('gradio')

from cellseg_mm.app.correct_part import LOOK, class_choices, label_of


def test_a_class_may_be_named_as_the_radio_button_without_a_class():
    corrections = Corrections(Cells.from_codes([], [], [], 4, 4), ('a', LOOK[0], '0'))
    image = SimpleNamespace(corrections=corrections)
    update = class_choices(image)
    names, values = zip(*update['choices'], strict=True)
    assert names == (LOOK[0], 'a', LOOK[0], '0') and update['value'] == values[0]
    assert [label_of(image, value) for value in values] == [None, 0, 1, 2]
    assert label_of(None, values[1]) is None and label_of(image, '3') is None
