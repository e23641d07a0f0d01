#!/usr/bin/env python3
"""Make `.venv` with everything cellseg_mm needs, mmcv's compiled ops included. Safe to run again.

Needs only Python 3.10 to 3.12 with venv, and a C++ compiler when no mmcv wheel is at hand. The wheel is built once and
kept in $CELLSEG_MM_CACHE (default ~/.cache/cellseg_mm) under a folder named by the mmcv, torch, CUDA and Python
versions; pip's own cache knows none but the first. A wheel in $PIP_FIND_LINKS is used in place of a build.
"""

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / '.venv'
VENV_PYTHON = VENV / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
ACTIVATE = f'{VENV}\\Scripts\\activate' if os.name == 'nt' else f'. {shlex.quote(str(VENV))}/bin/activate'
STAMP = VENV / '.cellseg_mm-setup'
REQUIREMENTS = [ROOT / f'requirements{part}.txt' for part in ('', '-app', '-dev')]

# mmcv's setup.py compiles in the environment it is run in, so what it imports has to be there first.
BUILD_TOOLS = ['setuptools>=77', 'wheel', 'ninja', 'psutil']
# CFLAGS replaces Python's own flags: -O2 and -DNDEBUG must be said again; without -g the build takes half the time.
MMCV_CFLAGS = '-O2 -g0 -DNDEBUG -fwrapv -w'

CHECK_OPS = """
import cv2, torch
from mmcv.ops import nms, roi_align
boxes = torch.tensor([[0., 0., 10., 10.], [1., 1., 11., 11.], [20., 20., 30., 30.]])
kept = nms(boxes, torch.tensor([.9, .8, .7]), 0.5)[1].tolist()
assert kept == [0, 2], kept
pooled = roi_align(torch.ones(1, 1, 8, 8), torch.tensor([[0., 0., 0., 4., 4.]]), (2, 2), 1.0, 2, 'avg', True)
assert pooled.shape == (1, 1, 2, 2) and torch.allclose(pooled, torch.ones(())), pooled
import cellseg_mm, mmdet
"""


class SetupError(Exception):
    """What went wrong and what to do about it, in one line."""


def say(message: str) -> None:
    print(f'[setup] {message}', flush=True)


def run(*command: object, hint: str, **kwargs) -> None:
    if subprocess.run([str(part) for part in command], **kwargs).returncode:
        raise SetupError(hint)


def pip(*arguments: object, hint: str = 'pip failed, its reason is above; with no network, set PIP_FIND_LINKS') -> None:
    run(VENV_PYTHON, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', *arguments, hint=hint)


def ask(code: str) -> str:
    """What the environment's Python prints for `code`."""
    return subprocess.run([VENV_PYTHON, '-c', code], capture_output=True, text=True, check=True).stdout.strip()


def requirements() -> dict:
    """Requirement lines of all files by lower-case package name."""
    lines = [line.strip() for path in REQUIREMENTS for line in path.read_text(encoding='utf-8').splitlines()]
    return {re.match(r'[\w.-]+', line)[0].lower(): line for line in lines if line and not line.startswith('#')}


def fingerprint(torch: str) -> str:
    """Digest of all that decides what the environment holds."""
    parts = [torch, sys.version, str(ROOT), Path(__file__).read_text(encoding='utf-8')]
    parts += [path.read_text(encoding='utf-8') for path in [*REQUIREMENTS, ROOT / 'pyproject.toml']]
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def check_python() -> None:
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        found = '.'.join(map(str, sys.version_info[:2]))
        raise SetupError(f'Python {found} found, 3.10 to 3.12 needed: run `make setup PYTHON=python3.11`')


def make_venv() -> None:
    if VENV_PYTHON.exists():
        version = ask('import sys; print(*sys.version_info[:2])').split()
        if version == [str(part) for part in sys.version_info[:2]]:
            return
        say(f'.venv holds Python {".".join(version)}, making it anew')
        shutil.rmtree(VENV)
    say('making .venv')
    run(
        *(sys.executable, '-m', 'venv', VENV),
        hint='could not make .venv: install the venv module (on Debian and Ubuntu: apt install python3-venv)',
    )


def cuda_build() -> str:
    """'cpu', or 'cu130' and the like when mmcv will compile CUDA ops: the very test in mmcv's setup.py."""
    cuda, visible = ask('import torch; print(torch.version.cuda, torch.cuda.is_available())').split()
    if cuda == 'None' or not (visible == 'True' or os.environ.get('FORCE_CUDA') == '1'):
        return 'cpu'
    return 'cu' + cuda.replace('.', '')


def check_compilers(cuda: str) -> None:
    compiler = os.environ.get('CXX', 'c++').split()[0]
    if os.name != 'nt' and not shutil.which(compiler):
        raise SetupError(
            f'no C++ compiler ({compiler}) found, mmcv needs one: install g++ (Debian: apt install g++; '
            'macOS: xcode-select --install), or hand in a wheel by PIP_FIND_LINKS=FOLDER'
        )
    cuda_home = os.environ.get('CUDA_HOME')
    if cuda != 'cpu' and not (shutil.which('nvcc') or (cuda_home and (Path(cuda_home) / 'bin/nvcc').exists())):
        raise SetupError(
            f'torch is built for CUDA ({cuda}) but nvcc is missing: install the CUDA toolkit of that version, or hand '
            'in a wheel by PIP_FIND_LINKS=FOLDER, or hide the GPU (CUDA_VISIBLE_DEVICES=) for ops on the CPU alone'
        )


def wheel_cache(mmcv: str, torch_version: str, cuda: str) -> Path:
    base = os.environ.get('CELLSEG_MM_CACHE') or Path.home() / '.cache/cellseg_mm'
    version, python = mmcv.split('==')[1], ask('import sys; print(sys.implementation.cache_tag)')
    return Path(base) / 'wheels' / f'mmcv-{version}_torch-{torch_version}_{cuda}_{python}'


def handed_in_wheel(mmcv: str, into: Path) -> bool:
    """Whether PIP_FIND_LINKS holds a wheel of `mmcv` for this Python; if so it is copied into `into`."""
    if not os.environ.get('PIP_FIND_LINKS'):
        return False
    command = [VENV_PYTHON, '-m', 'pip', 'download', '-q', '--no-index', '--no-deps', '--only-binary', ':all:']
    return subprocess.run([*command, '-d', into, mmcv], capture_output=True).returncode == 0


def build_wheel(mmcv: str, into: Path) -> None:
    """Compile the wheel of `mmcv` into the folder `into`, with a line of progress and the time left."""
    command = [VENV_PYTHON, '-m', 'pip', 'wheel', '-v', '--no-cache-dir', '--no-build-isolation', '--no-deps']
    environment = {'CFLAGS': MMCV_CFLAGS, 'MAX_JOBS': str(os.cpu_count() or 2), **os.environ, 'MMCV_WITH_OPS': '1'}
    environment['PATH'] = os.pathsep.join([str(VENV_PYTHON.parent), os.environ.get('PATH', '')])
    log_path, start, live = into / 'build.log', time.monotonic(), sys.stdout.isatty()
    say('compiling the ops of mmcv, once for this machine (5 to 15 minutes on two cores)')
    with (
        open(log_path, 'w', encoding='utf-8') as log,
        subprocess.Popen(
            [*command, '-w', into, mmcv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as process,
    ):
        for line in process.stdout:
            log.write(line)
            step = re.match(r'\s*\[(\d+)/(\d+)\]', line)
            if step:
                done, total = map(int, step.groups())
                left = (time.monotonic() - start) / done * (total - done)
                if live or done == total or done % 10 == 0:
                    text = f'[setup] compiled {done}/{total} files, {left / 60:.1f} min left'
                    print(text, end='\r' if live and done < total else '\n', flush=True)
    if process.returncode:
        print(''.join(log_path.read_text(encoding='utf-8').splitlines(keepends=True)[-30:]), file=sys.stderr)
        kept = Path(tempfile.gettempdir()) / 'cellseg_mm-mmcv-build.log'
        shutil.copyfile(log_path, kept)
        raise SetupError(
            f'mmcv did not build, the end of its log is above, all of it in {kept}: mend what its first "error:" names '
            '(often memory: MAX_JOBS=1 make setup), or hand in a wheel by PIP_FIND_LINKS=FOLDER'
        )


def install_mmcv(mmcv: str) -> None:
    torch_version = ask('import torch; print(torch.__version__)')
    cuda = cuda_build()
    cache = wheel_cache(mmcv, torch_version.split('+')[0], cuda)
    if not list(cache.glob('*.whl')):
        cache.parent.mkdir(parents=True, exist_ok=True)
        # built beside the cache and renamed into it, so that a killed build leaves nothing that looks like a wheel
        with tempfile.TemporaryDirectory(dir=cache.parent) as folder:
            if handed_in_wheel(mmcv, Path(folder)):
                say('mmcv: wheel from PIP_FIND_LINKS')
                pip('--force-reinstall', '--no-deps', next(Path(folder).glob('*.whl')))
                return
            check_compilers(cuda)
            build_wheel(mmcv, Path(folder))
            wheel = next(Path(folder).glob('*.whl'))
            cache.mkdir(exist_ok=True)
            os.replace(wheel, cache / wheel.name)
    say(f'mmcv: wheel from {cache}')
    # forced: one of the same version, built for another torch, may be installed already
    pip('--force-reinstall', '--no-deps', next(cache.glob('*.whl')))


def set_up(torch: str, torch_index: str) -> None:
    check_python()
    specs = requirements()
    torch_spec = f'torch=={torch}' if torch else specs['torch']
    digest = fingerprint(f'{torch_spec} {torch_index}')
    if STAMP.exists() and STAMP.read_text() == digest and VENV_PYTHON.exists():
        say('.venv is up to date')
        return
    start = time.monotonic()
    make_venv()
    STAMP.unlink(missing_ok=True)
    say(f'installing {torch_spec}')
    pip(*BUILD_TOOLS)
    pip(torch_spec, *(['--index-url', torch_index] if torch_index else []))
    install_mmcv(specs['onedl-mmcv'])
    say('installing the other requirements')
    pip(*(spec for name, spec in specs.items() if name not in ('torch', 'onedl-mmcv')))
    # both OpenCV packages write the folder cv2, the last one wins; headless needs no libGL
    pip('--force-reinstall', '--no-deps', specs['opencv-python-headless'])
    pip('--no-deps', '--no-build-isolation', '--editable', ROOT)
    say('trying nms and roi_align')
    run(VENV_PYTHON, '-c', CHECK_OPS, hint='the installed ops do not run: delete .venv and the wheel cache, and repeat')
    STAMP.write_text(digest)
    say(f'done in {(time.monotonic() - start) / 60:.1f} min')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--torch', default='', help='torch release, e.g. 2.12.0 (default: the pin in requirements.txt)')
    parser.add_argument('--torch-index', default='', help="package index to take torch from, e.g. PyTorch's CPU one")
    args = parser.parse_args()
    try:
        set_up(args.torch, args.torch_index)
        say(f'`python` is that of .venv after: {ACTIVATE}')
    except SetupError as error:
        print(f'[setup] error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('[setup] stopped; run it again to go on', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
