import resource
import sys
from types import SimpleNamespace

import pytest

from cellseg_mm.utils import peak_mib


@pytest.mark.parametrize('platform, unit', [('linux', 2**10), ('darwin', 2**20)])
def test_the_unit_is_that_of_the_system(platform, unit, monkeypatch):
    monkeypatch.setattr(sys, 'platform', platform)
    assert peak_mib(SimpleNamespace(ru_maxrss=300 * unit)) == 300


def test_this_process():
    assert 20 < peak_mib(resource.getrusage(resource.RUSAGE_SELF)) < 10**5
