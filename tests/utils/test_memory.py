import resource
import sys
from types import SimpleNamespace

import pytest
from processes import run_script

from cellseg_mm.utils import keep_freed_memory, peak_mib


@pytest.mark.parametrize('platform, unit', [('linux', 2**10), ('darwin', 2**20)])
def test_the_unit_is_that_of_the_system(platform, unit, monkeypatch):
    monkeypatch.setattr(sys, 'platform', platform)
    assert peak_mib(SimpleNamespace(ru_maxrss=300 * unit)) == 300


def test_this_process():
    assert 20 < peak_mib(resource.getrusage(resource.RUSAGE_SELF)) < 10**5


FAULTS = """
import resource, sys
import torch
from cellseg_mm.utils import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == 'keep' else None)
for number in range(40):
    if number == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**23).sum()  # 32 MiB, 8,192 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='a setting of glibc')
def test_freed_memory_is_used_again(tmp_path):
    script, faults = tmp_path / 'faults.py', {}
    script.write_text(FAULTS)
    for way in ('keep', 'give back'):
        result = run_script(script, way, folder=tmp_path)
        assert result.returncode == 0, result.stderr
        is_set, count = result.stdout.split()
        faults[way] = int(count)
        assert is_set == str(True if way == 'keep' else None)
    assert faults['keep'] < 0.1 * faults['give back']


def test_the_users_own_settings_stay(monkeypatch):
    monkeypatch.setenv('MALLOC_ARENA_MAX', '2')
    assert keep_freed_memory() is False
