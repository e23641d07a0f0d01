"""The set-up's answers to what goes wrong on a new machine. That it works is shown by these tests being run at all."""

import importlib.util
import itertools
import sys
from collections import namedtuple

import pytest
from conftest import ROOT

spec = importlib.util.spec_from_file_location('setup_env', ROOT / 'tools/setup_env.py')
setup_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup_env)

Version = namedtuple('Version', 'major minor micro')


@pytest.fixture
def empty_path(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.delenv('CUDA_HOME', raising=False)


@pytest.mark.parametrize('minor', [9, 13])
def test_wrong_python(monkeypatch, minor):
    monkeypatch.setattr(sys, 'version_info', Version(3, minor, 0))
    with pytest.raises(setup_env.SetupError, match=rf'Python 3\.{minor} found.*make setup PYTHON='):
        setup_env.check_python()


@pytest.mark.parametrize('minor', [10, 11, 12])
def test_right_python(monkeypatch, minor):
    monkeypatch.setattr(sys, 'version_info', Version(3, minor, 0))
    setup_env.check_python()


def test_no_compiler(empty_path):
    with pytest.raises(setup_env.SetupError, match=r'no C\+\+ compiler.*apt install g\+\+.*PIP_FIND_LINKS'):
        setup_env.check_compilers('cpu')


def test_cuda_torch_without_nvcc(empty_path, monkeypatch):
    monkeypatch.setenv('CXX', sys.executable)  # any program will do as a compiler here
    setup_env.check_compilers('cpu')
    with pytest.raises(setup_env.SetupError, match=r'cu130.*nvcc is missing.*CUDA_VISIBLE_DEVICES='):
        setup_env.check_compilers('cu130')


@pytest.mark.parametrize(
    'torch_says, force, cuda',
    [('None False', '0', 'cpu'), ('13.0 False', '0', 'cpu'), ('13.0 True', '0', 'cu130'), ('13.0 False', '1', 'cu130')],
)
def test_cuda_is_told_as_mmcv_tells_it(monkeypatch, torch_says, force, cuda):
    monkeypatch.setattr(setup_env, 'ask', lambda code: torch_says)
    monkeypatch.setenv('FORCE_CUDA', force)
    assert setup_env.cuda_build() == cuda


def test_a_failed_build_shows_its_end_and_says_what_to_do(monkeypatch, tmp_path, capsys):
    fake = tmp_path / 'python'
    fake.write_text(
        '#!/bin/sh\necho "[1/2] c++ a.cpp"\necho "[2/2] c++ b.cpp"\necho "a.cpp:1: error: out of memory"\nexit 1\n'
    )
    fake.chmod(0o755)
    monkeypatch.setattr(setup_env, 'VENV_PYTHON', fake)
    with pytest.raises(setup_env.SetupError, match='MAX_JOBS=1 make setup'):
        setup_env.build_wheel('onedl-mmcv==2.3.6', tmp_path)
    printed = capsys.readouterr()
    assert 'compiled 2/2 files, 0.0 min left' in printed.out
    assert 'out of memory' in printed.err


def test_the_cache_is_keyed_by_all_that_a_wheel_depends_on(monkeypatch):
    monkeypatch.setattr(setup_env, 'ask', lambda code: 'cpython-311')
    monkeypatch.setenv('CELLSEG_MM_CACHE', '/cache')
    path = setup_env.wheel_cache('onedl-mmcv==2.3.6', '2.13.0', 'cu130')
    assert path.name == 'mmcv-2.3.6_torch-2.13.0_cu130_cpython-311'
    assert str(path).startswith('/cache')


def test_the_stamp_follows_torch_and_requirements(monkeypatch, tmp_path):
    before = setup_env.fingerprint('torch==2.13.0')
    assert before == setup_env.fingerprint('torch==2.13.0') != setup_env.fingerprint('torch==2.12.0')
    changed = tmp_path / 'requirements.txt'
    changed.write_text('torch==1\n# comment\nnumpy\n')
    monkeypatch.setattr(setup_env, 'REQUIREMENTS', [changed])
    assert setup_env.fingerprint('torch==2.13.0') != before
    assert setup_env.requirements() == {'torch': 'torch==1', 'numpy': 'numpy'}


def test_it_ends_with_the_line_that_activates(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['setup_env'])
    monkeypatch.setattr(setup_env, 'set_up', lambda torch, index: None)
    assert setup_env.main() == 0
    assert capsys.readouterr().out.endswith(f': . {ROOT}/.venv/bin/activate\n')


def test_every_requirement_is_pinned_and_explained():
    for path in setup_env.REQUIREMENTS:
        lines = [line for line in path.read_text().splitlines() if line]
        for before, line in itertools.pairwise(lines):
            if not line.startswith('#'):
                assert before.startswith('#') or before.startswith('opencv-python'), line
                assert '==' in line or '<' in line, line
