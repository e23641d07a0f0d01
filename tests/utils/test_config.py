import pytest
from conftest import ROOT
from mmengine.config import Config

from cellseg_mm.utils import UserError, diff_configs, load_config, parse_config_text
from cellseg_mm.utils.config import MISSING, flatten


def test_flatten_opens_dicts_and_lists_of_dicts():
    value = dict(a=1, b=dict(c=[1, 2], d=[dict(e=3), dict(e=4)], f={}))
    assert dict(flatten(value)) == {'a': 1, 'b.c': [1, 2], 'b.d[0].e': 3, 'b.d[1].e': 4, 'b.f': {}}


def test_diff_tells_changed_added_and_removed_keys():
    old = dict(same=(1, 2), changed=dict(x=1), flag=True, gone=1)
    new = dict(same=[1, 2], changed=dict(x=2), flag=1, added='y')
    assert diff_configs(old, new) == [
        ('added', MISSING, 'y'),
        ('changed.x', 1, 2),
        ('flag', True, 1),
        ('gone', 1, MISSING),
    ]
    assert diff_configs(old, old) == []


@pytest.mark.parametrize('path', sorted((ROOT / 'configs').glob('**/mask*.py')), ids=lambda path: path.stem)
def test_a_dumped_config_parses_without_being_run(path):
    cfg = Config.fromfile(path)
    assert not diff_configs(parse_config_text(cfg.pretty_text), cfg.to_dict())


@pytest.mark.parametrize(
    'text',
    ['a = open("x")', 'import os', 'a = __import__("os")', 'a = dict(b=[c for c in d])', 'a = dict(*b)', 'a += 1'],
)
def test_programs_are_refused(text):
    with pytest.raises((ValueError, SyntaxError)):
        parse_config_text(text)


def test_missing_config(tmp_path):
    with pytest.raises(UserError, match='no such config file'):
        load_config(str(tmp_path / 'x.py'))


@pytest.mark.parametrize(
    'name, text, told',
    [
        ('x.pth', '', 'is a checkpoint where a config is needed; the config is given before'),
        ('x.txt', 'a = 1', r'is no config that can be read \(OSError: '),
        ('x.py', 'a = (\n', r'is no config that can be read \(SyntaxError: '),
        ('x.py', "_base_ = 'nothing.py'", r'is no config that can be read \(FileNotFoundError: '),
        ('x.py', 'a = b', r'is no config that can be read \(NameError: '),
    ],
)
def test_files_that_are_no_config(name, text, told, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=told) as raised:
        load_config(str(tmp_path / name))
    assert str(raised.value).startswith(str(tmp_path / name)) and '\n' not in str(raised.value)
