"""Training that is killed and resumed ends as one that was not, bit by bit, wherever it was killed.

Runs are children of a server process that has imported everything, so that a start costs little.
"""

import multiprocessing
import os
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from cellseg_mm.engine.checkpoint import latest_checkpoint, read_checkpoint
from cellseg_mm.visualization import read_scalars

CONFIG = """
_base_ = '{base}'
resize = dict(type='Resize', scale=(96, 96), keep_ratio=True)
train_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.train_pipeline]
test_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.test_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=3, val_interval=1)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=3, by_epoch=True, convert_to_iter_based=True)]
"""
# of the clock and of the machine, not of the run
UNSTEADY = ('time', 'data_time', 'memory', 'eta')

pytestmark = pytest.mark.slow
context = multiprocessing.get_context('forkserver')
context.set_forkserver_preload(['cellseg_mm', 'mmengine.runner'])


def train(config: Path, data: Path, work_dir: Path, die: tuple | None, how: int) -> None:
    """tools/train.py in this process; with ``die``, (module, class, function, n), signalled in the n-th call of it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background of a shell
    with open(work_dir.with_suffix('.log'), 'a') as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    torch.set_num_threads(1)
    if die:
        module, owner, name, calls = die
        owner = getattr(sys.modules[module], owner) if owner else sys.modules[module]
        function, count = getattr(owner, name), iter(range(1, 10**6))

        def dies(*args, **kwargs):
            if next(count) == calls:
                os.kill(os.getpid(), how)
            return function(*args, **kwargs)

        setattr(owner, name, dies)
    options = ['--cfg-options', f'data_root={data}']
    sys.argv = ['train', str(config), '--from-scratch', '--resume', '--work-dir', str(work_dir), *options]
    runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')


class Run:
    """A training run in a work dir, which may be started again and again."""

    def __init__(self, config: Path, data: Path, work_dir: Path):
        self.arguments = config, data, work_dir
        self.work_dir = work_dir

    def start(self, kill_after: float | None = None, die: tuple | None = None, how: int = signal.SIGKILL) -> int:
        """Train until it ends or is killed; the exit status, -9 if it was killed."""
        process = context.Process(target=train, args=(*self.arguments, die, how))
        process.start()
        process.join(kill_after)
        process.kill()
        process.join()
        return process.exitcode

    def outcome(self) -> tuple:
        """What must be equal: the last checkpoint's content, and all that was logged."""
        content = read_checkpoint(latest_checkpoint(str(self.work_dir)))
        hub = content['message_hub']['log_scalars']
        logged = {name: log.data[0].tolist() for name, log in hub.items() if name.split('/')[-1] not in UNSTEADY}
        return {key: content[key] for key in ('state_dict', 'optimizer', 'param_schedulers')}, logged


def assert_same(first: object, second: object, where: str = '') -> None:
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f'{where}.{key}')
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f'{where}[{index}]')
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second or (first != first and second != second), where


@pytest.fixture(scope='module')
def start_run(prepared, tmp_path_factory):
    root = tmp_path_factory.mktemp('runs')
    config = root / 'tiny.py'
    config.write_text(CONFIG.format(base=(ROOT / 'configs/demo/maskrcnn_r18_fpn_cbam.py').as_posix()))
    return lambda name: Run(config, prepared, root / name)


@pytest.fixture(scope='module')
def whole(start_run):
    """The outcome of a run that nobody disturbed, its scalars, and its seconds."""
    run = start_run('whole')
    start = time.monotonic()
    assert run.start() == 0, run.work_dir.with_suffix('.log').read_text()[-3000:]
    return run, time.monotonic() - start


def finish_and_compare(run: Run, whole: tuple) -> None:
    assert run.start() == 0, run.work_dir.with_suffix('.log').read_text()[-3000:]
    assert_same(run.outcome(), whole[0].outcome())
    shutil.rmtree(run.work_dir)  # a gigabyte


POINTS = {
    'a batch is loaded': ('cellseg_mm.datasets', 'CellDataset', 'get_data_info', 9),
    'an iteration': ('mmengine.runner', 'EpochBasedTrainLoop', 'run_iter', 6),
    'a validation': ('cellseg_mm.evaluation', 'CellMetric', 'process', 3),
    'validation ends': ('cellseg_mm.evaluation', 'CellMetric', 'compute_metrics', 2),
    'the last validation ends': ('cellseg_mm.evaluation', 'CellMetric', 'compute_metrics', 3),
    'the first file is moved into place': ('os', None, 'replace', 2),
    'a checkpoint is flushed': ('os', None, 'fsync', 6),
    'the best checkpoint is replaced': ('os', None, 'replace', 9),
}


@pytest.mark.parametrize('point', POINTS)
def test_killed_at_each_kind_of_place(point, start_run, whole):
    run = start_run(point.replace(' ', '_'))
    assert run.start(die=POINTS[point]) == -signal.SIGKILL
    finish_and_compare(run, whole)


@pytest.mark.parametrize('point', ['an iteration', 'a validation', 'a checkpoint is flushed'])
def test_stopped_by_ctrl_c(point, start_run, whole):
    run = start_run('ctrl_c_' + point.replace(' ', '_'))
    assert run.start(die=POINTS[point], how=signal.SIGINT) == 130
    assert run.work_dir.with_suffix('.log').read_text().splitlines()[-1].startswith('stopped; --resume goes on')
    assert not list(run.work_dir.rglob('*.partial'))
    finish_and_compare(run, whole)


@pytest.mark.parametrize('seed', range(20))
def test_killed_at_random_times(seed, start_run, whole):
    """At one to three times, drawn over the length of the whole run."""
    rng = np.random.default_rng(seed)
    run = start_run(f'random_{seed}')
    killed = [run.start(kill_after=moment) for moment in rng.uniform(0.05, 1, rng.integers(1, 4)) * whole[1]]
    assert set(killed) <= {0, -signal.SIGKILL}
    finish_and_compare(run, whole)
    print(f'killed {killed.count(-signal.SIGKILL)} times')


def test_what_is_logged_is_that_of_the_whole_run(start_run, whole):
    run = start_run('logged')
    assert run.start(die=POINTS['an iteration']) == -signal.SIGKILL
    assert run.start() == 0
    logged, expected = (read_scalars(r.work_dir) for r in (run, whole[0]))
    assert_same(without_clock(logged), without_clock(expected))


def without_clock(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_clock(entry) for key, entry in value.items() if str(key).split('/')[-1] not in UNSTEADY}
    return [without_clock(entry) for entry in value] if isinstance(value, (list, tuple)) else value
