"""Mistakes and failed writing as messages in the page, without a browser."""

import errno
import os

import gradio as gr
import pytest

from cellseg_mm.app.correct_part import CorrectPart
from cellseg_mm.app.messages import errors_in_page
from cellseg_mm.utils import UserError


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_failed_writing_is_one_line_that_names_the_file_and_not_its_folder(tmp_path, number):
    with pytest.raises(gr.Error) as raised, errors_in_page(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path / 'visitor/steps/cells.json'))
    message = raised.value.message
    assert message.startswith(f'cells.json: not saved ({os.strerror(number)})') and 'try again' in message
    assert '\n' not in message and str(tmp_path) not in message


def test_mistakes_do_not_show_the_servers_folder(tmp_path):
    with pytest.raises(gr.Error) as raised, errors_in_page(tmp_path):
        raise UserError(f'{tmp_path}/steps/a.json: damaged')
    assert raised.value.message == 'steps/a.json: damaged'


def test_a_page_whose_visitor_is_not_known_says_to_reload(tmp_path):
    part = CorrectPart(None, tmp_path, tmp_path, None)
    for action in (
        lambda: part.undo(None, None),
        lambda: part.teach(None, True),
        lambda: part.reopen('image', None, None),
        lambda: part.files(None),
    ):
        with pytest.raises(gr.Error, match='Reload the page'):
            action()
