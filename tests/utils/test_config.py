import argparse

import pytest
from conftest import ROOT
from mmengine.config import Config

from cellseg_mm.utils import ConfigOptions, UserError, diff_configs, load_config, parse_config_text
from cellseg_mm.utils.config import MISSING, flatten, parse_value


@pytest.mark.parametrize(
    'word, value',
    [
        ('a=1', 1),
        ('a=1e-3', 1e-3),
        ('a=true', True),
        ('a=None', None),
        ('a=1,2', [1, 2]),
        ('a=[(1, 2), b]', [(1, 2), 'b']),
        ('a=two words', 'two words'),
        ('a="two words"', 'two words'),
        ("a=it's", "it's"),
        ('data_root=My Drive/cells', 'My Drive/cells'),
        ('data_root="My Drive/cells"', 'My Drive/cells'),
        ('data_root=a,b/cells', 'a,b/cells'),
        ('data_root=(1) cells', '(1) cells'),
        ('data_root=2024', '2024'),
        ('data_root=1e5', '1e5'),
        ('train_dataloader.dataset.ann_file=a, b.json', 'a, b.json'),
        ('load_from=None', None),
        ('a.b=x=y', 'x=y'),
        ('model.test_cfg.rcnn.max_per_img=50', 50),
        ('val_dataloader.dataset.data_prefix.img=a,b/', 'a,b/'),
    ],
)
def test_options_keep_spaces_and_paths(word, value):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions)
    options = parser.parse_args(['--cfg-options', word, 'other=1']).cfg_options
    assert options == {word.partition('=')[0]: value, 'other': 1}
    assert type(options[word.partition('=')[0]]) is type(value)


def test_a_file_that_is_there_is_one_value(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_value('a', 'x/1,2') == ['x/1', 2]
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x/1,2').touch()
    assert parse_value('a', 'x/1,2') == 'x/1,2'
    with pytest.raises(UserError, match='brackets do not match'):
        parse_value('a', '[1,(2]')


def test_flatten_opens_dicts_and_lists_of_dicts():
    value = dict(a=1, b=dict(c=[1, 2], d=[dict(e=3), dict(e=4)], f={}))
    assert dict(flatten(value)) == {'a': 1, 'b.c': [1, 2], 'b.d[0].e': 3, 'b.d[1].e': 4, 'b.f': {}}


def test_diff_lists_changed_added_and_removed_keys():
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
    'name, text, message',
    [
        ('x.pth', '', 'is a checkpoint, but a config is needed here; give the config before'),
        ('x.txt', 'a = 1', r'cannot be read as a config \(OSError: '),
        ('x.py', 'a = (\n', r'cannot be read as a config \(SyntaxError: '),
        ('x.py', "_base_ = 'nothing.py'", r'cannot be read as a config \(FileNotFoundError: '),
        ('x.py', 'a = b', r'cannot be read as a config \(NameError: '),
    ],
)
def test_files_that_are_not_configs(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        load_config(str(tmp_path / name))
    assert str(raised.value).startswith(str(tmp_path / name)) and '\n' not in str(raised.value)
