import json
import math

import pytest

from cellseg_mm.utils import write_atomically, write_json


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
