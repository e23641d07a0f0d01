import runpy
import sys

import pytest
from conftest import ROOT


@pytest.fixture
def error_line(monkeypatch, capsys):
    """Run the tool in this process on a user's mistake; return its one line."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['report.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / 'tools/report.py'), run_name='__main__')
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
        assert stopped.value.code == 2 and len(lines) == 1
        return lines[0]

    return run


def test_mistakes(error_line, tmp_path):
    assert 'no such folder; give a work dir' in error_line(tmp_path / 'x')
    assert 'no training log and no test_metrics.json' in error_line(tmp_path)
    assert 'the name must end in .html' in error_line(tmp_path, '--out', tmp_path)
    assert not list(tmp_path.iterdir())
