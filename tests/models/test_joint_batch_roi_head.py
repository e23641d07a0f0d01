import joint_step
import pytest
import torch
from conftest import ROOT
from processes import run_script


@pytest.fixture(scope='module')
def changes(tmp_path_factory):
    """Of the parameters by a training step of one process, and of two; with our RoI head and with the stock one."""
    path = tmp_path_factory.mktemp('step') / 'two.pth'
    result = run_script(ROOT / 'tests/models/joint_step.py', path, folder=path.parent, ranks=2, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return joint_step.steps(), torch.load(path)


def distance(one, two):
    """Of all changes, relative."""
    one, two = (torch.cat([change.flatten() for change in changes.values()]) for changes in (one, two))
    return ((one - two).norm() / one.norm()).item()


def test_two_processes_step_as_one_on_the_joint_batch(changes):
    one, two = (changes['JointBatchRoIHead'] for changes in changes)
    assert distance(one, two) < 1e-6
    for name, change in one.items():
        torch.testing.assert_close(two[name], change, rtol=1e-5, atol=1e-9, msg=name)
    assert one['roi_head.mask_head.conv_logits.weight'].abs().max() > 0


def test_with_the_stock_head_they_do_not(changes):
    one, two = (changes['StandardRoIHead'] for changes in changes)
    assert distance(one, two) > 0.1


def test_in_one_process_nothing_differs_from_the_stock_head(changes):
    one, _ = changes
    torch.testing.assert_close(one['JointBatchRoIHead'], one['StandardRoIHead'], rtol=0, atol=0)
