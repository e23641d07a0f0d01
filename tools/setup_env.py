#!/usr/bin/env python3
"""Make `.venv` with the requirements of cellseg_mm, including mmcv's compiled ops. Safe to run again.

It needs Python 3.10 to 3.14 with venv, and a C++ compiler if there is no mmcv wheel. GROUP names a file of further
requirements, requirements-GROUP.txt; an installed group stays. uv installs the packages if it is found, else pip.

The wheel of mmcv is built once and kept in $CELLSEG_MM_CACHE (default ~/.cache/cellseg_mm). Its folder is named by the
mmcv, torch, CUDA and Python versions and by the GPUs, because pip's own cache knows only the first of these. A wheel in
$PIP_FIND_LINKS is used instead of a build.
"""

from __future__ import annotations  # an older Python has to come as far as the message that it is too old

import argparse
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / '.venv'
VENV_PYTHON = VENV / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
ACTIVATE = f'{VENV}\\Scripts\\activate' if os.name == 'nt' else f'. {shlex.quote(str(VENV))}/bin/activate'
STAMP = VENV / '.cellseg_mm-setup'
REQUIREMENTS = ROOT / 'requirements.txt'
GROUPS = {path.stem.split('-', 1)[1]: path for path in sorted(ROOT.glob('requirements-*.txt'))}
PYTHONS = (3, 10), (3, 14)

# mmcv's setup.py compiles in the environment it is run in, so what it imports has to be there first.
BUILD_TOOLS = ['setuptools>=77', 'wheel', 'ninja', 'psutil']
# CFLAGS replaces Python's own flags: -O2 and -DNDEBUG must be said again; without -g the build takes half the time.
MMCV_CFLAGS = '-O2 -g0 -DNDEBUG -fwrapv -w'
# Set for uv from pip's variables, which it does not read.
PIP_TO_UV = {
    'PIP_FIND_LINKS': 'UV_FIND_LINKS',
    'PIP_INDEX_URL': 'UV_DEFAULT_INDEX',
    'PIP_EXTRA_INDEX_URL': 'UV_INDEX',
    'PIP_CERT': 'SSL_CERT_FILE',
}

# for mmcv's setup.py where a GPU may be there, without a compiler for it
NO_CUDA = {'FORCE_CUDA': '0', 'CUDA_VISIBLE_DEVICES': ''}
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


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    say(what)
    start = time.monotonic()
    yield
    say(f'{what}: {time.monotonic() - start:.0f} s')


def run(*command: object, hint: str, **kwargs) -> None:
    if subprocess.run([str(part) for part in command], **kwargs).returncode:
        raise SetupError(hint)


def find_uv() -> str | None:
    """The program uv, unless CELLSEG_MM_INSTALLER=pip asks for pip."""
    return None if os.environ.get('CELLSEG_MM_INSTALLER') == 'pip' else shutil.which('uv')


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with uv's variables set from pip's, where uv's are not set."""
    known = {uv: environ[pip] for pip, uv in PIP_TO_UV.items() if environ.get(pip)}
    if 'UV_FIND_LINKS' in known:
        known['UV_FIND_LINKS'] = known['UV_FIND_LINKS'].replace(' ', ',')
    return known | dict(environ)


def install(
    *arguments: object, hint: str = 'the packages were not installed, the reason is above; offline: set PIP_FIND_LINKS'
) -> None:
    uv = find_uv()
    if uv:
        command = [uv, 'pip', 'install', '--python', VENV_PYTHON, '--quiet']
    else:
        # Not compiled to bytecode here: Python does so on the first import, and most modules are never imported.
        command = [VENV_PYTHON, '-m', 'pip', 'install', '--quiet', '--no-compile', '--disable-pip-version-check']
    run(*command, *arguments, hint=hint, env=uv_environment(os.environ) if uv else None)


def ask(code: str) -> str:
    """What the environment's Python prints for `code`."""
    return subprocess.run([VENV_PYTHON, '-c', code], capture_output=True, text=True, check=True).stdout.strip()


def requirements(path: Path) -> dict[str, list[str]]:
    """Requirement lines of a file by lower-case package name; several where the version depends on Python's."""
    found = {}
    for line in path.read_text(encoding='utf-8').splitlines():
        line = line.strip()
        if line and not line.startswith('#'):
            found.setdefault(re.match(r'[\w.-]+', line)[0].lower(), []).append(line)
    return found


def fingerprint(torch: str) -> str:
    """Digest of all that decides what the environment holds without its groups."""
    parts = [torch, sys.version, str(ROOT), Path(__file__).read_text(encoding='utf-8')]
    parts += [path.read_text(encoding='utf-8') for path in (REQUIREMENTS, ROOT / 'pyproject.toml')]
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def read_stamp() -> dict[str, str]:
    """What is installed: digests of the base (under '') and of each group's file."""
    try:
        stamp = json.loads(STAMP.read_text(encoding='utf-8')) if VENV_PYTHON.exists() else {}
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def plan(stamp: Mapping[str, str], base: str, wanted: Iterable[str]) -> tuple[bool, list[str]]:
    """Whether the base has to be installed, and which groups.

    A new base takes the groups along that were installed with the old one.

    Raises:
        SetupError: If a wanted group has no file.
    """
    unknown = sorted(set(wanted) - set(GROUPS))
    if unknown:
        raise SetupError(f'no requirements-{unknown[0]}.txt; groups of requirements: {", ".join(GROUPS)}')
    if stamp.get('') != base:
        return True, sorted({*wanted, *stamp} & set(GROUPS))
    return False, sorted(group for group in set(wanted) if stamp.get(group) != group_digest(group))


def group_digest(group: str) -> str:
    return hashlib.sha256(GROUPS[group].read_bytes()).hexdigest()


def check_python() -> None:
    first, last = PYTHONS
    if not first <= sys.version_info[:2] <= last:
        found, first, last = ('.'.join(map(str, version)) for version in (sys.version_info[:2], first, last))
        raise SetupError(
            f'Python {found} found, {first} to {last} needed: run `make setup PYTHON=python3.12`; without one, uv '
            '(https://docs.astral.sh/uv) fetches it: `uv venv --python 3.12 .py && make setup PYTHON=.py/bin/python`'
        )


def make_venv() -> None:
    if VENV_PYTHON.exists():
        version = ask('import sys; print(*sys.version_info[:2])').split()
        if version == [str(part) for part in sys.version_info[:2]]:
            return
        say(f'.venv holds Python {".".join(version)}, making it anew')
        shutil.rmtree(VENV)
    uv = find_uv()
    with timed('making .venv'):
        # --seed: with pip, which builds and looks for the wheel of mmcv
        by_uv = [uv, 'venv', '--quiet', '--seed', '--python', sys.executable]
        run(
            *(by_uv if uv else [sys.executable, '-m', 'venv']),
            VENV,
            hint='could not make .venv: install the venv module (on Debian and Ubuntu: apt install python3-venv)',
            env=uv_environment(os.environ) if uv else None,
        )


def cuda_build() -> str:
    """'cpu', or 'cu130' and the like when mmcv will compile CUDA ops: the very test in mmcv's setup.py."""
    cuda, visible = ask('import torch; print(torch.version.cuda, torch.cuda.is_available())').split()
    if cuda == 'None' or not (visible == 'True' or os.environ.get('FORCE_CUDA') == '1'):
        return 'cpu'
    return 'cu' + cuda.replace('.', '')


def cuda_archs() -> str:
    """The compute capabilities that CUDA ops are compiled for, as in '8.0+9.0': asked for or visible."""
    asked = os.environ.get('TORCH_CUDA_ARCH_LIST', '')
    if not asked:
        asked = ask(
            'import torch; '
            'print(*("%d.%d" % torch.cuda.get_device_capability(gpu) for gpu in range(torch.cuda.device_count())))'
        )
    return '+'.join(sorted(set(re.split(r'[;,\s]+', asked.strip()))))


def header_package() -> str:
    """Debian's package of Python.h for this Python."""
    minor = 'python{}.{}'.format(*sys.version_info[:2])
    system = Path('/usr/bin/python3')
    return 'python3-dev' if system.exists() and system.resolve().name == minor else f'{minor}-dev'


def check_compiler() -> None:
    """Raises SetupError if the C++ compiler or Python's headers are missing."""
    compiler = os.environ.get('CXX', 'c++').split()[0]
    if os.name != 'nt' and not shutil.which(compiler):
        raise SetupError(
            f'no C++ compiler ({compiler}) found, mmcv needs one: install g++ (Debian: apt install g++; '
            'macOS: xcode-select --install), or hand in a wheel by PIP_FIND_LINKS=FOLDER'
        )
    header = Path(sysconfig.get_paths()['include']) / 'Python.h'
    if not header.exists():
        raise SetupError(
            f'{header} is missing, mmcv needs it: install the headers of this Python (Debian, Ubuntu: apt install '
            f'{header_package()}; Fedora: dnf install python3-devel), or hand in a wheel by PIP_FIND_LINKS=FOLDER'
        )


def nvcc_major(nvcc: Path | str) -> str | None:
    """'13' for a compiler of CUDA 13.x; None if it does not run."""
    with contextlib.suppress(OSError):
        done = subprocess.run([nvcc, '--version'], capture_output=True, text=True)
        release = re.search(r'release (\d+)\.', done.stdout)
        if done.returncode == 0 and release:
            return release[1]
    return None


def installed_nvcc(cuda: str) -> Path | None:
    """The CUDA folder of an nvcc on this machine of the same major version as `cuda`, 'cu130' and the like."""
    homes = [Path(os.environ['CUDA_HOME'])] if os.environ.get('CUDA_HOME') else []
    if found := shutil.which('nvcc'):
        homes.append(Path(found).resolve().parents[1])
    for home in homes:
        if nvcc_major(home / 'bin/nvcc') == cuda[2:-1]:
            return home
    return None


def nvcc_from_packages(cuda: str) -> Path | None:
    """Install the compiler of torch's own CUDA into .venv, the rest of its CUDA being there; the CUDA folder, or None.

    Packages of CUDA 13 and later share one folder, as a toolkit does. Those of CUDA 12 have no nvcc.
    """
    site = Path(ask('import sysconfig; print(sysconfig.get_paths()["purelib"])'))
    home = site / 'nvidia' / cuda[:-1]
    try:
        version = ask('from importlib.metadata import version; print(version("cuda-toolkit"))')
        install(f'cuda-toolkit[nvcc,cccl]=={version}')
    except (SetupError, subprocess.CalledProcessError):
        return None
    if nvcc_major(home / 'bin/nvcc') != cuda[2:-1]:
        return None
    # torch links with -L$CUDA_HOME/lib64 -lcudart, where the packages have lib/libcudart.so.13 alone
    (home / 'lib64').mkdir(exist_ok=True)
    for library in (home / 'lib').glob('libcudart.so.*'):
        link = home / 'lib64/libcudart.so'
        link.unlink(missing_ok=True)
        link.symlink_to(library)
    return home


def choose_cuda(cuda: str, installed: Callable = installed_nvcc, packaged: Callable = nvcc_from_packages) -> tuple:
    """What the ops are compiled for: (`cuda`, CUDA folder), or ('cpu', None) where no compiler of `cuda` can be had."""
    if cuda == 'cpu':
        return cuda, None
    if home := installed(cuda):
        return cuda, home
    release = f'CUDA {cuda[2:-1]}.{cuda[-1]}'
    say(f'no nvcc of {release} found: taking it from packages, into .venv')
    if home := packaged(cuda):
        return cuda, home
    say(
        f'no nvcc of {release} could be had from packages either: the ops are compiled for the CPU alone, so run the '
        f'tools with CUDA_VISIBLE_DEVICES= (empty); for the GPU, install the toolkit of {release} and repeat'
    )
    return 'cpu', None


def wheel_folder() -> Path:
    return Path(os.environ.get('CELLSEG_MM_CACHE') or Path.home() / '.cache/cellseg_mm') / 'wheels'


def wheel_cache(mmcv: str, torch: str, cuda: str, archs: str = '') -> Path:
    """Where the wheel of `mmcv` for `torch` is kept (both 'NAME==VERSION'); `cuda` may be '*' to look for any.

    The kernels of one GPU do not run on another: `archs` (:func:`cuda_archs`) is part of the name where it is given.
    """
    cuda = f'{cuda}_{archs}' if archs else cuda
    version, torch = mmcv.split('==')[1], torch.split('==')[1].split('+')[0]
    return wheel_folder() / f'mmcv-{version}_torch-{torch}_{cuda}_{sys.implementation.cache_tag}'


def wheel_at_hand(mmcv: str, torch: str) -> bool:
    """Whether a compiler may not be needed, as far as is known before torch is installed."""
    cached = wheel_folder().glob(f'{wheel_cache(mmcv, torch, "*").name}/*.whl')
    return bool(os.environ.get('PIP_FIND_LINKS')) or any(cached)


def handed_in_wheel(mmcv: str, into: Path) -> bool:
    """Whether PIP_FIND_LINKS holds a wheel of `mmcv` for this Python; if so it is copied into `into`."""
    if not os.environ.get('PIP_FIND_LINKS'):
        return False
    command = [VENV_PYTHON, '-m', 'pip', 'download', '-q', '--no-index', '--no-deps', '--only-binary', ':all:']
    return subprocess.run([*command, '-d', into, mmcv], capture_output=True).returncode == 0


def unpack_mmcv(mmcv: str, into: Path) -> Path:
    """The source of `mmcv`, unpacked in the folder `into`."""
    command = [VENV_PYTHON, '-m', 'pip', 'download', '--quiet', '--no-cache-dir', '--disable-pip-version-check']
    run(
        *(*command, '--no-deps', '--no-build-isolation', '--no-binary', ':all:', '-d', into, mmcv),
        hint='mmcv was not downloaded, the reason is above; offline: PIP_FIND_LINKS=FOLDER with a wheel of it',
        env={**os.environ, **NO_CUDA},  # pip runs mmcv's setup.py, which would look for nvcc, maybe in vain
    )
    archive = next(into.glob('*.tar.gz'))
    with tarfile.open(archive) as tar:
        tar.extractall(into, **({'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}))
    return into / archive.name.removesuffix('.tar.gz')


def names_defined(source: str) -> set[str]:
    """Names of functions, structs and classes that a C++ file defines, as far as its lines show."""
    functions = re.findall(r'^[\w:<>*& ]+\s[*&]?(\w+)\([^;{}]*\)\s*\{', source, flags=re.MULTILINE)
    return {*functions, *re.findall(r'^\s*(?:struct|class)\s+(\w+)[^;]*?\{', source, flags=re.MULTILINE)}


def join_sources(folder: Path, parts: int) -> None:
    """Make the C++ files in `folder` into about `parts` files of like sizes, each of which includes its share of them.

    Nearly all of the time that a file of mmcv takes goes to instantiating torch's headers, which a joined file does
    once. (A precompiled header spares the parsing alone, a hundredth of it.) Files that define the same name stay
    apart; a macro ends with its file.
    """
    joined = [('#include <torch/extension.h>\n', 0, set())] * parts
    for path in sorted(folder.glob('*.cpp')):
        source = path.read_text(encoding='utf-8')
        names = names_defined(source)
        free = [number for number, (_, _, taken) in enumerate(joined) if not taken & names]
        if not free:
            free = [len(joined)]
            joined.append((joined[0][0].splitlines(keepends=True)[0], 0, set()))
        number = min(free, key=lambda number: joined[number][1])
        text, size, taken = joined[number]
        text += f'#include "{path.with_suffix(".ipp").name}"\n'
        text += ''.join(f'#undef {macro}\n' for macro in re.findall(r'^#define (\w+)', source, flags=re.MULTILINE))
        joined[number] = text, size + len(source), taken | names
        path.rename(path.with_suffix('.ipp'))
    for number, (text, size, _) in enumerate(joined):
        if size:
            (folder / f'joined_{number}.cpp').write_text(text, encoding='utf-8')


def part_sources(folder: Path) -> None:
    """Undo :func:`join_sources`."""
    for path in folder.glob('joined_*.cpp'):
        path.unlink()
    for path in folder.glob('*.ipp'):
        path.rename(path.with_suffix('.cpp'))


def build_environment(folder: Path, cuda_home: Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which mmcv compiles in `folder`: its ops, for the GPU only with `cuda_home`, on all cores.

    Where ccache is found, nvcc goes through it, so that a build of CUDA ops that was stopped goes on. C++ takes a
    minute or two, and the wheel is kept.
    """
    ours = {'CFLAGS': MMCV_CFLAGS, 'MAX_JOBS': str(usable_cores())}
    path = [str(VENV_PYTHON.parent), environ.get('PATH', '')]
    if cuda_home:
        forced = {'FORCE_CUDA': '1', 'CUDA_HOME': str(cuda_home)}
        path.insert(1, str(cuda_home / 'bin'))
        if ccache := shutil.which('ccache', path=environ.get('PATH', '')):
            # the folder has another name each time, which must not count
            ours |= {'PYTORCH_NVCC': f'{ccache} {cuda_home / "bin/nvcc"}'}
            ours |= {'CCACHE_BASEDIR': str(folder), 'CCACHE_NOHASHDIR': '1'}
    else:
        forced = NO_CUDA
    return {**ours, **environ, **forced, 'MMCV_WITH_OPS': '1', 'PATH': os.pathsep.join(path)}


def usable_cores() -> int:
    """Cores that this process may use: of a container's or taskset's share where the system can tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 2


class WheelBuild:
    """The compiling of mmcv's wheel in the background, from entering on; leaving it early ends it.

    Args:
        source (Path): Folder of mmcv's source.
        into (Path): Folder for the wheel and the log.
        environment (dict): Of :func:`build_environment`.
    """

    def __init__(self, source: Path, into: Path, environment: Mapping[str, str]) -> None:
        self._command = [VENV_PYTHON, '-m', 'pip', 'wheel', '-v', '--no-cache-dir', '--no-build-isolation', '--no-deps']
        self._command += ['-w', into, source]
        self._log, self._environment = into / 'build.log', environment

    def __enter__(self) -> WheelBuild:
        say('compiling the ops of mmcv in the background, once for this machine')
        self._start = time.monotonic()
        with open(self._log, 'wb') as log:
            # a session of its own, so that all compilers can be ended together
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, env=self._environment, start_new_session=True
            )
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            if hasattr(os, 'killpg'):
                os.killpg(self._process.pid, signal.SIGTERM)
            else:
                self._process.terminate()
            self._process.wait()

    def wait(self) -> bool:
        """Show the progress until the build has ended; return whether the wheel is there."""
        shown, live = 0, sys.stdout.isatty()
        while True:
            ended = self._process.poll() is not None
            steps = re.findall(r'^\s*\[(\d+)/(\d+)\]', self.log(), flags=re.MULTILINE)
            done, total = map(int, steps[-1]) if steps else (0, 0)
            if done > shown and (live or done == total or done - shown >= total / 10):
                left = (time.monotonic() - self._start) / done * (total - done)
                line = f'[setup] compiled {done}/{total} files, {left / 60:.1f} min left'
                print(line, end='\r' if live and done < total else '\n', flush=True)
                shown = done
            if ended:
                say(f'compiling the ops of mmcv: {time.monotonic() - self._start:.0f} s')
                return self._process.returncode == 0
            time.sleep(0.2)

    def log(self) -> str:
        return self._log.read_text(encoding='utf-8', errors='replace')


def build_wheel(mmcv: str, folder: Path, cuda_home: Path | None, others: Callable[[], None]) -> Path:
    """Compile the wheel of `mmcv` in `folder`, and meanwhile call `others`.

    Its sources are joined, and compiled one by one if they do not compile so, which is not known of every compiler.

    Raises:
        SetupError: If it did not build; the end of the log is printed, and all of it kept.
    """
    source, environment = unpack_mmcv(mmcv, folder), build_environment(folder, cuda_home, os.environ)
    sources = [source / 'mmcv/ops/csrc/pytorch', source / 'mmcv/ops/csrc/pytorch/cpu']
    for ops in sources:
        join_sources(ops, int(environment['MAX_JOBS']))
    with WheelBuild(source, folder, environment) as build:
        others()
        built = build.wait()
    if not built:
        say('the joined sources did not compile: once more, one by one (5 to 15 minutes on two cores)')
        for ops in sources:
            part_sources(ops)
        with WheelBuild(source, folder, environment) as build:
            built = build.wait()
    if not built:
        kept = Path(tempfile.gettempdir()) / 'cellseg_mm-mmcv-build.log'
        kept.write_text(build.log(), encoding='utf-8')
        print('\n'.join(build.log().splitlines()[-30:]), file=sys.stderr)
        raise SetupError(
            f'mmcv did not build, the end of its log is above, all of it in {kept}: mend what its first "error:" '
            'names (often memory: MAX_JOBS=1 make setup), or hand in a wheel by PIP_FIND_LINKS=FOLDER'
        )
    return next(folder.glob('*.whl'))


def install_with_mmcv(mmcv: str, others: Callable[[], None]) -> None:
    """Install mmcv with its ops, from a wheel at hand or compiled here, and by `others()` everything else meanwhile."""
    torch = 'torch==' + ask('import torch; print(torch.__version__)')
    cuda, home = cuda_build(), None
    archs = '' if cuda == 'cpu' else cuda_archs()
    cache = wheel_cache(mmcv, torch, cuda, archs)
    # forced: one of the same version, built for another torch, may be installed already
    install_wheel = ('--force-reinstall', '--no-deps')
    if not list(cache.glob('*.whl')):
        cache.parent.mkdir(parents=True, exist_ok=True)
        # built beside the cache and renamed into it, so that a killed build leaves nothing that looks like a wheel
        with tempfile.TemporaryDirectory(dir=cache.parent) as name:
            folder = Path(name)
            if handed_in_wheel(mmcv, folder):
                say('mmcv: wheel from PIP_FIND_LINKS')
                others()
                install(*install_wheel, next(folder.glob('*.whl')))
                return
            check_compiler()
            cuda, home = choose_cuda(cuda)
            cache = wheel_cache(mmcv, torch, cuda, '' if cuda == 'cpu' else archs)
            if not list(cache.glob('*.whl')):
                wheel = build_wheel(mmcv, folder, home, others)
                cache.mkdir(exist_ok=True)
                os.replace(wheel, cache / wheel.name)
                install(*install_wheel, cache / wheel.name)
                return
    say(f'mmcv: wheel from {cache}')
    others()
    install(*install_wheel, next(cache.glob('*.whl')))


def set_up(torch: str, torch_index: str, groups: Iterable[str]) -> None:
    check_python()
    specs = requirements(REQUIREMENTS)
    torch_spec = f'torch=={torch}' if torch else specs['torch'][0]
    base, stamp = fingerprint(f'{torch_spec} {torch_index}'), read_stamp()
    base_too, groups = plan(stamp, base, groups)
    if not base_too and not groups:
        say('.venv is up to date')
        return
    start = time.monotonic()
    mmcv, opencv = specs['onedl-mmcv'][0], specs['opencv-python-headless']
    files = [part for group in groups for part in ('-r', GROUPS[group])]
    names = ' '.join(['requirements.txt'] * base_too + [GROUPS[group].name for group in groups])

    def others() -> None:
        first = [line for name, lines in specs.items() if name not in ('torch', 'onedl-mmcv') for line in lines]
        with timed(f'installing {names}'):
            # the base again beside a group, so that the versions of both agree
            install(*first, *files)
            # both OpenCV packages write the folder cv2, the last one wins; headless needs no libGL
            install('--force-reinstall', '--no-deps', *opencv)

    if base_too:
        if not wheel_at_hand(mmcv, torch_spec):
            check_compiler()  # now, and not after gigabytes of torch
        make_venv()
        STAMP.unlink(missing_ok=True)
        with timed(f'installing {torch_spec}'):
            install(*BUILD_TOOLS)
            install(torch_spec, *(['--index-url', torch_index] if torch_index else []))
        install_with_mmcv(mmcv, others)
        install('--no-deps', '--no-build-isolation', '--editable', ROOT)
        with timed('trying nms and roi_align'):
            hint = 'the installed ops do not run: delete .venv and the wheel cache, and repeat'
            # Python 3.14 warns of docstrings in mmdet, once, when it compiles them
            run(VENV_PYTHON, '-W', 'ignore::SyntaxWarning', '-c', CHECK_OPS, hint=hint)
    else:
        others()
    stamp = {} if base_too else stamp
    STAMP.write_text(json.dumps({**stamp, '': base, **{group: group_digest(group) for group in groups}}))
    say(f'done in {(time.monotonic() - start) / 60:.1f} min')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('groups', nargs='*', metavar='GROUP', help=f'further requirements: {", ".join(GROUPS)}')
    parser.add_argument('--torch', default='', help='torch release, e.g. 2.12.0 (default: the pin in requirements.txt)')
    parser.add_argument('--torch-index', default='', help="package index to take torch from, e.g. PyTorch's CPU one")
    args = parser.parse_args()
    try:
        set_up(args.torch, args.torch_index, args.groups)
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
