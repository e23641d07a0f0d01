import subprocess
import sys
import time

import pytest

from cellseg_mm.utils import cpu_seconds

BUSY = 'import time\nwhile time.process_time() < 0.5: pass'


def test_own_time_counts():
    before, own = cpu_seconds(), time.process_time()
    while time.process_time() < own + 0.2:
        pass
    assert cpu_seconds() - before == pytest.approx(0.2, abs=0.1)


def test_time_of_children_counts_while_they_run_and_afterwards():
    before = cpu_seconds()
    child = subprocess.Popen([sys.executable, '-c', BUSY + '\nprint(flush=True)\ninput()'], stdin=-1, stdout=-1)
    child.stdout.readline()
    running = cpu_seconds() - before
    child.communicate(b'\n')
    assert running == pytest.approx(0.5, abs=0.2)
    if sys.platform != 'win32':  # which does not keep the time of those that ended
        assert cpu_seconds() - before >= running
