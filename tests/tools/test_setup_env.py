"""The set-up's choices and its answers to what goes wrong on a new machine. That it works is shown by these tests being
run at all."""

import ast
import importlib.util
import itertools
import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections import namedtuple
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

spec = importlib.util.spec_from_file_location('setup_env', ROOT / 'tools/setup_env.py')
setup_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup_env)

Version = namedtuple('Version', 'major minor micro')
PYTHONS = ['3.10', '3.11', '3.12', '3.13', '3.14']
FILES = [setup_env.REQUIREMENTS, *setup_env.GROUPS.values()]


@pytest.fixture
def empty_path(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    for name in ('CXX', 'CUDA_HOME', 'PIP_FIND_LINKS', 'CELLSEG_MM_INSTALLER'):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def commands(monkeypatch):
    """The commands that would be run, each with its environment."""
    run = []
    monkeypatch.setattr(setup_env, 'run', lambda *command, hint, env=None: run.append((list(map(str, command)), env)))
    return run


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)
    return path


def nvcc(home: Path, release: str) -> Path:
    program(home / 'bin/nvcc', f'echo "Cuda compilation tools, release {release}, V{release}.48"')
    return home


# Python


@pytest.mark.parametrize('minor', [9, 15])
def test_wrong_python_offers_uv_in_one_line(monkeypatch, minor):
    monkeypatch.setattr(sys, 'version_info', Version(3, minor, 0))
    with pytest.raises(
        setup_env.SetupError, match=rf'Python 3\.{minor} found, 3\.10 to 3\.14 .*uv venv --python 3\.12'
    ) as e:
        setup_env.check_python()
    assert '\n' not in str(e.value)


def test_an_older_python_can_read_the_file():
    """It has to come as far as the message that it is too old."""
    text = Path(setup_env.__file__).read_text(encoding='utf-8')
    ast.parse(text, feature_version=(3, 8))
    assert setup_env.find_uv.__annotations__ == {'return': 'str | None'}  # not evaluated


@pytest.mark.parametrize('minor', range(10, 15))
def test_right_python(monkeypatch, minor):
    monkeypatch.setattr(sys, 'version_info', Version(3, minor, 0))
    setup_env.check_python()


def test_the_package_says_the_same_pythons():
    first, last = ('.'.join(map(str, version)) for version in setup_env.PYTHONS)
    assert [first, last] == [PYTHONS[0], PYTHONS[-1]]
    text = (ROOT / 'pyproject.toml').read_text()
    assert f'requires-python = ">={first},<3.{int(last.split(".")[1]) + 1}"' in text


# the compiler of C++


def test_no_compiler(empty_path):
    with pytest.raises(setup_env.SetupError, match=r'no C\+\+ compiler.*apt install g\+\+.*PIP_FIND_LINKS'):
        setup_env.check_compiler()


def test_missing_headers_are_named_with_their_package(empty_path, monkeypatch):
    monkeypatch.setenv('CXX', sys.executable)  # any program will do as a compiler here
    monkeypatch.setattr(sysconfig, 'get_paths', lambda: {'include': str(empty_path)})
    with pytest.raises(setup_env.SetupError, match=r'Python\.h is missing.*apt install python3.*-dev.*python3-devel'):
        setup_env.check_compiler()
    (empty_path / 'Python.h').touch()
    setup_env.check_compiler()


@pytest.mark.parametrize('system, package', [('python3.12', 'python3-dev'), ('python3.11', 'python3.12-dev')])
def test_the_package_of_headers_fits_the_python(monkeypatch, system, package):
    monkeypatch.setattr(sys, 'version_info', Version(3, 12, 1))
    monkeypatch.setattr(Path, 'exists', lambda self: True)
    monkeypatch.setattr(Path, 'resolve', lambda self: self.with_name(system))
    assert setup_env.header_package() == package


def test_compilers_are_looked_for_before_torch_is_downloaded(empty_path, monkeypatch, commands):
    monkeypatch.setenv('CELLSEG_MM_CACHE', str(empty_path))
    monkeypatch.setattr(setup_env, 'STAMP', empty_path / 'no_stamp')
    with pytest.raises(setup_env.SetupError, match=r'no C\+\+ compiler'):
        setup_env.set_up('', '', [])
    assert not commands


def test_no_compiler_is_asked_for_where_a_wheel_may_be_at_hand(empty_path, monkeypatch):
    monkeypatch.setenv('CELLSEG_MM_CACHE', str(empty_path))
    assert not setup_env.wheel_at_hand('onedl-mmcv==2.3.6', 'torch==2.13.0')
    folder = setup_env.wheel_cache('onedl-mmcv==2.3.6', 'torch==2.13.0+cpu', 'cpu')
    folder.mkdir(parents=True)
    (folder / 'a.whl').touch()
    assert setup_env.wheel_at_hand('onedl-mmcv==2.3.6', 'torch==2.13.0')
    assert not setup_env.wheel_at_hand('onedl-mmcv==2.3.6', 'torch==2.12.0')
    monkeypatch.setenv('PIP_FIND_LINKS', 'wheels')
    assert setup_env.wheel_at_hand('onedl-mmcv==2.3.6', 'torch==2.12.0')


# the compiler of CUDA


@pytest.mark.parametrize(
    'torch_says, force, cuda',
    [('None False', '0', 'cpu'), ('13.0 False', '0', 'cpu'), ('13.0 True', '0', 'cu130'), ('13.0 False', '1', 'cu130')],
)
def test_cuda_is_found_as_mmcv_finds_it(monkeypatch, torch_says, force, cuda):
    monkeypatch.setattr(setup_env, 'ask', lambda code: torch_says)
    monkeypatch.setenv('FORCE_CUDA', force)
    assert setup_env.cuda_build() == cuda


def test_the_nvcc_of_the_machine_is_taken_if_its_major_version_fits(empty_path, monkeypatch):
    assert setup_env.installed_nvcc('cu130') is None
    old, new = nvcc(empty_path / 'cuda-12.8', '12.8'), nvcc(empty_path / 'cuda-13.1', '13.1')
    monkeypatch.setenv('PATH', str(old / 'bin'))
    assert setup_env.installed_nvcc('cu130') is None
    assert setup_env.installed_nvcc('cu126') == old
    monkeypatch.setenv('CUDA_HOME', str(new))
    assert setup_env.installed_nvcc('cu130') == new
    monkeypatch.delenv('CUDA_HOME')
    (empty_path / 'links').mkdir()
    (empty_path / 'links/nvcc').symlink_to(new / 'bin/nvcc')
    monkeypatch.setenv('PATH', str(empty_path / 'links'))
    assert setup_env.installed_nvcc('cu130') == new


@pytest.mark.parametrize(
    'cuda, installed, packaged, chosen, says',
    [
        ('cpu', '/toolkit', '/packages', ('cpu', None), ''),
        ('cu130', '/toolkit', '/packages', ('cu130', '/toolkit'), ''),
        ('cu130', None, '/packages', ('cu130', '/packages'), 'no nvcc of CUDA 13.0 found: taking it from packages'),
        ('cu130', None, None, ('cpu', None), 'compiled for the CPU alone, so run the tools with CUDA_VISIBLE_DEVICES='),
    ],
)
def test_choice_of_the_cuda_compiler(capsys, cuda, installed, packaged, chosen, says):
    assert setup_env.choose_cuda(cuda, lambda _: installed, lambda _: packaged) == chosen
    printed = capsys.readouterr().out
    assert says in printed and bool(says) == bool(printed)


def test_nvcc_from_packages_is_that_of_torchs_cuda(empty_path, monkeypatch, commands):
    home = nvcc(empty_path / 'nvidia/cu13', '13.0')
    (home / 'lib').mkdir()
    (home / 'lib/libcudart.so.13').touch()
    monkeypatch.setattr(setup_env, 'ask', lambda code: '13.0.3.0' if 'cuda-toolkit' in code else str(empty_path))
    assert setup_env.nvcc_from_packages('cu130') == home
    assert commands[0][0][-1] == 'cuda-toolkit[nvcc,cccl]==13.0.3.0'
    assert (home / 'lib64/libcudart.so').resolve() == home / 'lib/libcudart.so.13'
    assert setup_env.nvcc_from_packages('cu130') == home  # once more
    (home / 'bin/nvcc').unlink()
    assert setup_env.nvcc_from_packages('cu130') is None


def test_no_packages_of_nvcc(monkeypatch, empty_path):
    def ask(code):
        if 'cuda-toolkit' in code:
            raise subprocess.CalledProcessError(1, 'python')
        return str(empty_path)

    monkeypatch.setattr(setup_env, 'ask', ask)
    assert setup_env.nvcc_from_packages('cu126') is None


def test_environment_of_the_build(empty_path):
    home = empty_path / 'cuda'
    with_cuda = setup_env.build_environment(empty_path, home, {'PATH': '/bin', 'MAX_JOBS': '3'})
    assert with_cuda['CUDA_HOME'] == str(home) and with_cuda['FORCE_CUDA'] == '1' and with_cuda['MAX_JOBS'] == '3'
    assert with_cuda['PATH'].split(':') == [str(setup_env.VENV_PYTHON.parent), str(home / 'bin'), '/bin']
    assert 'PYTORCH_NVCC' not in with_cuda
    program(empty_path / 'ccache', '')
    with_ccache = setup_env.build_environment(empty_path, home, {'PATH': str(empty_path)})
    assert with_ccache['PYTORCH_NVCC'] == f'{empty_path}/ccache {home}/bin/nvcc'
    # a GPU without a compiler for it: mmcv must not try
    without = setup_env.build_environment(empty_path, None, {'PATH': '/bin', 'FORCE_CUDA': '1'})
    assert without['FORCE_CUDA'] == '0' and without['CUDA_VISIBLE_DEVICES'] == ''


# uv and pip


def test_packages_are_installed_by_uv_where_it_is(empty_path, monkeypatch, commands):
    setup_env.install('numpy')
    program(empty_path / 'uv', '')
    setup_env.install('numpy')
    monkeypatch.setenv('CELLSEG_MM_INSTALLER', 'pip')
    setup_env.install('numpy')
    python = str(setup_env.VENV_PYTHON)
    by_pip, by_uv, asked_for_pip = (command for command, _ in commands)
    assert by_pip[:4] == [python, '-m', 'pip', 'install'] and by_pip == asked_for_pip
    assert by_uv[:5] == [str(empty_path / 'uv'), 'pip', 'install', '--python', python]
    assert by_pip[-1] == by_uv[-1] == 'numpy'


def test_uv_makes_the_venv_with_pip_in_it(empty_path, monkeypatch, commands):
    monkeypatch.setattr(setup_env, 'VENV_PYTHON', empty_path / 'none')
    setup_env.make_venv()
    program(empty_path / 'uv', '')
    setup_env.make_venv()
    (by_venv, _), (by_uv, _) = commands
    assert by_venv == [sys.executable, '-m', 'venv', str(setup_env.VENV)]
    assert by_uv[1] == 'venv' and '--seed' in by_uv and by_uv[-2:] == [sys.executable, str(setup_env.VENV)]


def test_uv_hears_of_pips_variables():
    environ = {'PIP_FIND_LINKS': '/a /b', 'PIP_INDEX_URL': 'https://mirror', 'UV_INDEX': 'https://own', 'HOME': '/root'}
    environ['PIP_EXTRA_INDEX_URL'] = 'https://other'
    assert setup_env.uv_environment(environ) == environ | {
        'UV_FIND_LINKS': '/a,/b',
        'UV_DEFAULT_INDEX': 'https://mirror',
    }


# the build


def test_joined_sources_hold_each_file_once(tmp_path):
    sources = {f'{name}.cpp': f'int {name};' for name in 'abcde'}
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    setup_env.join_sources(tmp_path, 2)
    joined = sorted(tmp_path.glob('*.cpp'))
    assert [path.name for path in joined] == ['joined_0.cpp', 'joined_1.cpp']
    included = [line.split('"')[1] for path in joined for line in path.read_text().splitlines() if '"' in line]
    assert sorted(included) == sorted(path.name for path in tmp_path.glob('*.ipp'))
    assert sorted((tmp_path / name).read_text() for name in included) == list(sources.values())


def test_fewer_sources_than_parts(tmp_path):
    (tmp_path / 'a.cpp').write_text('int a;')
    setup_env.join_sources(tmp_path, 4)
    assert [path.name for path in tmp_path.glob('*.cpp')] == ['joined_0.cpp']


@pytest.mark.skipif(not shutil.which('c++'), reason='no C++ compiler')
def test_joined_sources_mean_what_the_files_mean(tmp_path):
    """A macro of one file must not reach the next, and functions of one name must not meet."""
    (tmp_path / 'torch').mkdir()
    (tmp_path / 'torch/extension.h').write_text('#include <algorithm>\n')
    helper = 'template <typename T>\nstatic T helper(const T& x,\n         int y) {\n  return x + SIGN y;\n}\n'
    (tmp_path / 'a.cpp').write_text(
        '#define SIGN +\n#define max(x, y) 0\n' + helper + 'int a() { return helper(3, 2); }\n'
    )
    (tmp_path / 'b.cpp').write_text('#define SIGN -\n' + helper + 'int b() { return helper(3, 2); }\n')
    (tmp_path / 'c.cpp').write_text('int c() { return std::max(7, 4); }\n')
    (tmp_path / 'main.cpp').write_text(
        '#include <cstdio>\nint a(); int b(); int c();\nint main() { printf("%d %d %d", a(), b(), c()); }\n'
    )
    setup_env.join_sources(tmp_path, 1)
    joined = sorted(path.name for path in tmp_path.glob('*.cpp'))
    assert joined == ['joined_0.cpp', 'joined_1.cpp']
    subprocess.run(['c++', '-I.', *joined, '-o', 'program'], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / 'program'], capture_output=True, text=True).stdout == '5 1 7'


@pytest.fixture
def unpacked(monkeypatch, tmp_path):
    """A source of mmcv with one file in each folder of ops, and a `python` that runs a script in place of pip."""
    source = tmp_path / 'onedl_mmcv-2.3.6'
    (source / 'mmcv/ops/csrc/pytorch/cpu').mkdir(parents=True)
    (source / 'mmcv/ops/csrc/pytorch/nms.cpp').write_text('int nms;')
    (source / 'mmcv/ops/csrc/pytorch/cpu/nms_cpu.cpp').write_text('int nms_cpu;')
    monkeypatch.setattr(setup_env, 'unpack_mmcv', lambda mmcv, into: source)
    return lambda script: monkeypatch.setattr(setup_env, 'VENV_PYTHON', program(tmp_path / 'python', script))


def test_mmcv_is_downloaded_where_only_the_build_will_have_nvcc(monkeypatch, commands, tmp_path):
    monkeypatch.setenv('FORCE_CUDA', '1')
    with tarfile.open(tmp_path / 'mmcv-1.tar.gz', 'w:gz') as tar:
        tar.addfile(tarfile.TarInfo('mmcv-1'))
    assert setup_env.unpack_mmcv('onedl-mmcv==2.3.6', tmp_path) == tmp_path / 'mmcv-1'
    ((command, environment),) = commands
    assert 'download' in command and environment['FORCE_CUDA'] == '0' and not environment['CUDA_VISIBLE_DEVICES']


def test_a_failed_build_shows_its_end_and_says_what_to_do(unpacked, tmp_path, capsys):
    unpacked('echo "[1/2] c++ a.cpp"; echo "[2/2] c++ b.cpp"; echo "a.cpp:1: error: out of memory"; exit 1')
    others = []
    with pytest.raises(setup_env.SetupError, match='MAX_JOBS=1 make setup'):
        setup_env.build_wheel('onedl-mmcv==2.3.6', tmp_path, None, lambda: others.append(1))
    printed = capsys.readouterr()
    assert 'compiled 2/2 files, 0.0 min left' in printed.out
    assert 'out of memory' in printed.err
    assert others == [1]


def test_sources_that_do_not_compile_joined_are_compiled_one_by_one(unpacked, tmp_path, capsys):
    ops = tmp_path / 'onedl_mmcv-2.3.6/mmcv/ops/csrc/pytorch'
    unpacked(f'test -e {ops}/nms.cpp && test -e {ops}/cpu/nms_cpu.cpp && touch {tmp_path}/mmcv.whl')
    wheel = setup_env.build_wheel('onedl-mmcv==2.3.6', tmp_path, None, lambda: None)
    assert wheel == tmp_path / 'mmcv.whl'
    assert 'did not compile: once more, one by one' in capsys.readouterr().out
    assert sorted(path.name for path in ops.rglob('*.*pp')) == ['nms.cpp', 'nms_cpu.cpp']


def test_a_build_that_is_left_early_ends_with_its_compilers(monkeypatch, tmp_path):
    script = program(tmp_path / 'python', f'(sleep 1; touch {tmp_path}/went_on) & wait')
    monkeypatch.setattr(setup_env, 'VENV_PYTHON', script)
    with pytest.raises(RuntimeError), setup_env.WheelBuild(tmp_path, tmp_path, {'PATH': '/usr/bin:/bin'}):
        time.sleep(0.3)
        raise RuntimeError('the other packages were not installed')
    time.sleep(1)
    assert not (tmp_path / 'went_on').exists()


def test_the_cache_is_keyed_by_all_that_a_wheel_depends_on(monkeypatch):
    monkeypatch.setenv('CELLSEG_MM_CACHE', '/cache')
    path = setup_env.wheel_cache('onedl-mmcv==2.3.6', 'torch==2.13.0+cu130', 'cu130')
    assert path.name == f'mmcv-2.3.6_torch-2.13.0_cu130_{sys.implementation.cache_tag}'
    assert str(path).startswith('/cache')
    path = setup_env.wheel_cache('onedl-mmcv==2.3.6', 'torch==2.13.0+cu130', 'cu130', '9.0')
    assert path.name == f'mmcv-2.3.6_torch-2.13.0_cu130_9.0_{sys.implementation.cache_tag}'


@pytest.mark.parametrize(
    'asked, torch_says, archs',
    [
        ('', '9.0 8.6 9.0\n', '8.6+9.0'),
        ('9.0', '', '9.0'),
        ('9.0; 8.0+PTX', '', '8.0+PTX+9.0'),
        ('9.0 8.0', '', '8.0+9.0'),
    ],
)
def test_the_gpus_of_a_wheel_are_those_asked_for_or_the_visible_ones(monkeypatch, asked, torch_says, archs):
    monkeypatch.setenv('TORCH_CUDA_ARCH_LIST', asked)
    monkeypatch.setattr(setup_env, 'ask', lambda code: torch_says)
    assert setup_env.cuda_archs() == archs


# groups and the stamp


@pytest.fixture
def groups(monkeypatch, tmp_path):
    files = {name: tmp_path / f'requirements-{name}.txt' for name in ('app', 'dev')}
    for path in files.values():
        path.write_text('x==1\n')
    monkeypatch.setattr(setup_env, 'GROUPS', files)
    return files


def test_a_group_is_installed_when_asked_for_and_once(groups):
    done = {'': 'base', 'app': setup_env.group_digest('app')}
    assert setup_env.plan({}, 'base', []) == (True, [])
    assert setup_env.plan({}, 'base', ['app']) == (True, ['app'])
    assert setup_env.plan({'': 'base'}, 'base', []) == (False, [])
    assert setup_env.plan(done, 'base', ['app']) == (False, [])
    assert setup_env.plan(done, 'base', ['app', 'dev']) == (False, ['dev'])
    groups['app'].write_text('x==2\n')
    assert setup_env.plan(done, 'base', ['app']) == (False, ['app'])
    # a new base must not leave packages behind that were installed for the old one
    assert setup_env.plan({**done, 'gone': ''}, 'other base', ['dev']) == (True, ['app', 'dev'])
    with pytest.raises(setup_env.SetupError, match=r'no requirements-pages\.txt; groups of requirements: app, dev'):
        setup_env.plan(done, 'base', ['pages'])


def test_the_stamp_of_an_earlier_version_or_another_program_counts_as_none(monkeypatch, tmp_path):
    monkeypatch.setattr(setup_env, 'STAMP', tmp_path / 'stamp')
    monkeypatch.setattr(setup_env, 'VENV_PYTHON', Path(sys.executable))
    assert setup_env.read_stamp() == {}
    for content in ('0f3a', '"text"', ''):
        setup_env.STAMP.write_text(content)
        assert setup_env.read_stamp() == {}
    setup_env.STAMP.write_text(json.dumps({'': 'base'}))
    assert setup_env.read_stamp() == {'': 'base'}
    monkeypatch.setattr(setup_env, 'VENV_PYTHON', tmp_path / 'gone')
    assert setup_env.read_stamp() == {}


def test_the_stamp_follows_torch_and_requirements(monkeypatch, tmp_path):
    before = setup_env.fingerprint('torch==2.13.0')
    assert before == setup_env.fingerprint('torch==2.13.0') != setup_env.fingerprint('torch==2.12.0')
    changed = tmp_path / 'requirements.txt'
    changed.write_text('torch==1\n# comment\nnumpy==1; python_version < "3.14"\nnumpy==2; python_version >= "3.14"\n')
    monkeypatch.setattr(setup_env, 'REQUIREMENTS', changed)
    assert setup_env.fingerprint('torch==2.13.0') != before
    assert setup_env.requirements(changed) == {
        'torch': ['torch==1'],
        'numpy': ['numpy==1; python_version < "3.14"', 'numpy==2; python_version >= "3.14"'],
    }


def test_it_ends_with_the_line_that_activates(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['setup_env', 'app'])
    monkeypatch.setattr(setup_env, 'set_up', lambda torch, index, groups: print(groups))
    assert setup_env.main() == 0
    printed = capsys.readouterr().out
    assert printed.startswith("['app']") and printed.endswith(f': . {ROOT}/.venv/bin/activate\n')


# the files of requirements


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_requirement_is_pinned_and_explained(path):
    lines = [line for line in path.read_text().splitlines() if line]
    assert lines[0].startswith('#')
    for before, line in itertools.pairwise(lines):
        if not line.startswith('#'):
            # several lines of a package for several Pythons, and the two OpenCV packages, share an explanation
            assert before.startswith(('#', line.split('=')[0], 'opencv-python')), line
            assert '==' in line or '<' in line, line


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize('python', PYTHONS)
def test_every_python_gets_each_package_once(path, python):
    for name, lines in setup_env.requirements(path).items():
        markers = [Requirement(line).marker for line in lines]
        found = sum(not marker or marker.evaluate({'python_version': python}) for marker in markers)
        # optional packages may lack the oldest Python; what needs them says so
        assert found == 1 or (found == 0 and python == '3.10' and path != setup_env.REQUIREMENTS), name


def test_each_group_is_an_extra_of_the_package():
    text = (ROOT / 'pyproject.toml').read_text()
    for group, path in setup_env.GROUPS.items():
        assert f'optional-dependencies.{group} = {{ file = ["{path.name}"] }}' in text
