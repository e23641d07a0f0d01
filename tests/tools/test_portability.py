"""Nothing that only POSIX systems have is needed to start a tool."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from cellseg_mm.utils import UserError, locked

POSIX_ONLY = ['fcntl', 'resource', 'pwd', 'grp', 'termios', 'pty']
LOCKS = {'cellseg_mm/utils/locks.py'}

RUN_TOOLS = f"""
import psutil  # which imports resource where it is, and does without it on Windows
import runpy, sys
sys.modules.update(dict.fromkeys({POSIX_ONLY}))
tools, sys.argv = sys.argv[1:], ['tool', '--help']
for tool in tools:
    try:
        runpy.run_path(tool, run_name='__main__')
    except SystemExit as stop:
        assert not stop.code, tool
    print('ran', tool)
"""


def test_tools_run_without_posix_modules():
    # of what Gradio needs on another system Gradio takes care
    tools = [str(path) for path in ROOT.glob('tools/*.py') if path.stem != 'app']
    result = subprocess.run([sys.executable, '-c', RUN_TOOLS, *tools], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('\nran ') == len(tools)


def test_locks_say_what_they_need(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'fcntl', None)
    with pytest.raises(UserError, match='--budget need file locks, which Windows lacks'), locked(tmp_path / 'lock'):
        pass


@pytest.mark.parametrize('module', POSIX_ONLY)
def test_only_locks_import_posix_modules(module):
    """Also where an import stands inside a function, which printing the help does not reach."""
    pattern = re.compile(rf'^\s*(import|from) {module}\b', flags=re.MULTILINE)
    paths = [path for folder in ('cellseg_mm', 'tools') for path in (ROOT / folder).rglob('*.py')]
    assert {path.relative_to(ROOT).as_posix() for path in paths if pattern.search(path.read_text('utf-8'))} <= LOCKS
