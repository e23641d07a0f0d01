import json
import math
from pathlib import Path

import pytest

from cellseg_mm.utils import UserError, output_file, output_folder, write_atomically, write_json


def test_written_whole_and_replaced(tmp_path):
    path = tmp_path / 'new' / 'file.txt'
    write_atomically(path, 'ä')
    assert path.read_bytes() == 'ä'.encode()
    write_atomically(path, b'other')
    assert path.read_bytes() == b'other'
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_older_file(tmp_path):
    path = tmp_path / 'file.json'
    write_json(path, dict(a=1))
    with pytest.raises(TypeError):
        write_json(path, dict(a=object()))
    with pytest.raises(TypeError):
        write_atomically(path, 5)
    assert json.loads(path.read_text()) == dict(a=1)
    assert list(tmp_path.iterdir()) == [path]


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / 'x.json', dict(a=[math.nan, 1.5, (math.inf,)], b=None))
    assert json.loads((tmp_path / 'x.json').read_text()) == dict(a=[None, 1.5, [None]], b=None)


@pytest.mark.parametrize(
    ('check', 'name', 'message'),
    [
        (output_folder, 'a.txt', r'a\.txt: is a file; name a folder'),
        (output_folder, 'a.txt/new', 'cannot be written to .Not a directory.; choose another place'),
        (output_file('.json'), 'a.txt', r'the name must end in \.json'),
        (output_file('.json', '.zip'), 'x', r'end in \.json or \.zip'),
        (output_file('.d'), 'folder.d', r'folder\.d: is a folder; name a file'),
        (output_file('.json'), 'a.txt/new.json', r'a\.txt: cannot be written to'),
        # where not even root can write; a folder without write permission is one to everybody else
        pytest.param(
            output_folder,
            '/proc/x',
            '/proc/x: cannot be written to',
            marks=pytest.mark.skipif(not Path('/proc/self').is_dir(), reason='Linux'),
        ),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_work(check, name, message, tmp_path):
    (tmp_path / 'a.txt').write_text('mine')
    (tmp_path / 'folder.d').mkdir()
    with pytest.raises(UserError, match=message):
        check(str(tmp_path / name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.txt', 'folder.d']


def test_outputs_that_can_be_are_not_made_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert output_folder('new/deeper') == Path('new/deeper')
    assert output_file('.json')('new/a.json') == Path('new/a.json')
    assert output_folder('') == Path('.')
    assert not list(tmp_path.iterdir())
