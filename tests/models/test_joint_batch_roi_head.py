import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT


@pytest.fixture(scope='module')
def changes(tmp_path_factory):
    """Of the parameters by a training step of one process, and of two."""
    folder = tmp_path_factory.mktemp('steps')
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    found = []
    for name, launcher in (('one', []), ('two', torchrun)):
        command = [sys.executable, *launcher, ROOT / 'tests/models/joint_step.py', folder / f'{name}.pth']
        environment = dict(os.environ, OMP_NUM_THREADS='1')
        result = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr[-3000:]
        found.append(torch.load(folder / f'{name}.pth'))
    return found


def distance(one, two):
    one, two = (torch.cat([change.flatten() for change in changes.values()]) for changes in (one, two))
    return ((one - two).norm() / one.norm()).item()


def test_two_processes_step_as_one_on_the_joint_batch(changes):
    one, two = (changes['JointBatchRoIHead'] for changes in changes)
    assert distance(one, two) < 1e-6
    for name, change in one.items():
        torch.testing.assert_close(two[name], change, rtol=1e-5, atol=1e-9, msg=name)
    assert one['roi_head.mask_head.conv_logits.weight'].abs().max() > 0


def test_with_the_stock_head_they_do_not(changes):
    one, two = changes
    assert distance(one['StandardRoIHead'], two['StandardRoIHead']) > 0.1
    for name, change in one['StandardRoIHead'].items():
        torch.testing.assert_close(one['JointBatchRoIHead'][name], change, rtol=0, atol=0)
