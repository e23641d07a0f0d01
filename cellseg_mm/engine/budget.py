"""Runs within a time budget: as many epochs as the slowest row has time for, the same for every run.

A trial of each row, some steps and a validation in a process of its own, measures how long the parts of a run take. The
choice is kept in ``OUT/schedule.json`` and holds for all runs there, so that their digests stay equal and they add up.

The budget is either clock time of training and test, or **core-hours**: one core for one hour, counted as the CPU time
of the training processes and their data workers. Core-hours do not depend on what else the machine does.
"""

import argparse
import math
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tqdm import tqdm

from cellseg_mm.evaluation import read_tested
from cellseg_mm.utils import UserError, locked, read_json, write_atomically, write_json

from .ablation import ORIGIN, Row, run_tool
from .provenance import provenance

SCHEDULE = 'schedule.json'
WARM_UP = 10  # steps of a trial that are not counted; half of them if there are fewer than 20
TRIAL_STEPS = 50  # or as many as an epoch has, if fewer


@dataclass(frozen=True)
class Budget:
    """The time for all runs.

    Attributes:
        seconds: Clock seconds, or core-seconds.
        of_cores: Whether ``seconds`` are core-seconds of training, and not clock seconds of training and test.
    """

    seconds: float
    of_cores: bool = False

    @classmethod
    def parse(cls, text: str) -> 'Budget':
        """Read ``'90s'``, ``'20m'``, ``'1.5h'`` or ``'2core-h'``, as argparse's ``type``."""
        match = re.fullmatch(r'(\d+(?:\.\d+)?)(s|m|h|core-h)', text)
        if not match:
            raise argparse.ArgumentTypeError(f'{text}: a budget is a number and s, m, h or core-h, such as 20m')
        return cls(float(match[1]) * {'s': 1, 'm': 60}.get(match[2], 3600), match[2] == 'core-h')


@dataclass(frozen=True)
class Pace:
    """How long the parts of a row's run take, in clock seconds or core-seconds.

    Attributes:
        start: From the start of the tool to its first step; assumed to be the same for testing.
        step: One training step, the mean of the counted ones.
        steps: Number of steps an epoch.
        epoch_end: Validation loss and checkpoint.
        validation: All validation images.
        test: All test images, each assumed to take as long as one of validation.
    """

    start: float
    step: float
    steps: int
    epoch_end: float
    validation: float
    test: float

    def of_training(self, epochs: int, val_interval: int) -> float:
        """Seconds of training, with a validation after each ``val_interval``-th epoch and after the last."""
        validations = -(-epochs // val_interval)
        return self.start + epochs * (self.step * self.steps + self.epoch_end) + validations * self.validation

    def of_run(self, epochs: int, val_interval: int) -> float:
        """Seconds of training and testing."""
        return self.of_training(epochs, val_interval) + self.start + self.test


def read_pace(stopwatch: dict, launched: float, steps: int, test_share: float) -> Pace:
    """The pace that a trial measured.

    Args:
        stopwatch (dict): ``clock`` or ``cores`` of :class:`StopwatchHook`.
        launched (float): When the tool was started, by the same count.
        steps (int): Steps of a whole epoch.
        test_share (float): Test images over validation images.
    """
    marks = [stopwatch['began'], *stopwatch['steps']]
    warm_up = min(WARM_UP, (len(marks) - 1) // 2)
    validation = stopwatch['validated'] - stopwatch['trained']
    return Pace(
        start=stopwatch['began'] - launched,
        step=(marks[-1] - marks[warm_up]) / (len(marks) - 1 - warm_up),
        steps=steps,
        epoch_end=stopwatch['trained'] - marks[-1],
        validation=validation,
        test=validation * test_share,
    )


def epochs_within(seconds: float, paces: dict, val_interval: int, tested: bool = True) -> int:
    """The most epochs that a run of any row has time for.

    Args:
        seconds (float): Time for one run.
        paces (dict[str, Pace]): Name of each row to its pace.
        val_interval (int): Epochs from one validation to the next.
        tested (bool): Whether the run's test counts.

    Raises:
        UserError: If the slowest row has no time for one epoch.
    """

    def slowest(epochs: int) -> tuple:
        return max(
            ((pace.of_run if tested else pace.of_training)(epochs, val_interval), name) for name, pace in paces.items()
        )

    needed, name = slowest(1)
    if needed > seconds:
        raise UserError(
            f'--budget leaves {max(seconds, 0):.0f} s for a run, and {name} needs {needed:.0f} s for one epoch'
            f'{" and its test" if tested else ""}; give more time, fewer seeds or fewer rows'
        )
    epochs = 1
    while slowest(epochs + 1)[0] <= seconds:
        epochs += 1
    return epochs


def set_epochs(cfg: Config, epochs: int) -> None:
    """Set the number of epochs; learning rates that fall until the last epoch now fall until the new last one.

    Args:
        cfg (Config): Changed in place.
        epochs (int): Replaces ``train_cfg.max_epochs``.
    """
    last = cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs
    schedulers = cfg.get('param_scheduler') or []
    for scheduler in [schedulers] if isinstance(schedulers, dict) else schedulers:
        for key in ('T_max', 'end'):
            if scheduler.get('by_epoch', True) and scheduler.get(key) == last:
                scheduler[key] = epochs


def take_schedule(rows: list, num_seeds: int, budget: Budget | None, out: Path, tested: bool = True) -> dict | None:
    """The schedule of an ablation: the one in its folder, or a new one that fits the budget and is kept there.

    Args:
        rows (list[Row]): The rows; the epochs of their configs do not count.
        num_seeds (int): Runs of each row.
        budget (Budget | None): For all runs; clock time includes the trials. None chooses no schedule.
        out (Path): Folder of the ablation.
        tested (bool): Whether the runs are tested within the budget; core-hours count training alone.

    Returns:
        dict | None: ``epochs``, and what they were chosen from. None without a schedule.

    Raises:
        UserError: If a trial fails, or the budget is too short.
    """
    path = out / SCHEDULE
    if budget is None or path.exists():
        return read_json(path, ORIGIN) if path.exists() else None
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / 'schedule.lock') as lock:  # a second process waits here, and then takes the choice of the first
        if path.exists():
            return read_json(path, ORIGIN)
        trials = {row.name: _try(row, out / 'trials', lock, tested) for row in tqdm(rows, desc='trials', unit='row')}
        paces = {name: trial['core_pace' if budget.of_cores else 'pace'] for name, trial in trials.items()}
        left = budget.seconds - (0 if budget.of_cores else sum(trial['seconds'] for trial in trials.values()))
        interval = rows[0].cfg.train_cfg.get('val_interval', 1)
        epochs = epochs_within(left / len(rows) / num_seeds, paces, interval, tested and not budget.of_cores)
        schedule = dict(
            epochs=epochs,
            budget=budget.seconds,
            of_cores=budget.of_cores,
            seeds=num_seeds,
            warm_up=WARM_UP,
            trials={name: asdict(pace) for name, pace in paces.items()},
            **provenance(),
        )
        write_json(path, schedule)
        shutil.rmtree(out / 'trials')
    return schedule


def _try(row: Row, trials: Path, lock: object, tested: bool) -> dict:
    """Train some steps and validate, unless an earlier, interrupted call has done it.

    Only if runs are tested, the test split needs labels.

    Returns:
        dict: ``pace`` and ``core_pace`` (:class:`Pace`), in clock seconds and in core-seconds, and ``seconds``, the
        clock time of the trial.
    """
    folder = trials / f'{row.name}-{row.digest}'
    done = folder / 'pace.json'
    if not done.exists():
        cfg = Config(row.cfg.to_dict())
        set_epochs(cfg, 1)
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='StopwatchHook')]
        processes = cfg.get('num_processes', 1)
        init_default_scope('mmdet')
        images = len(DATASETS.build(cfg.train_dataloader.dataset))
        steps = math.ceil(images / cfg.train_dataloader.batch_size / processes)
        if steps > TRIAL_STEPS:
            cfg.train_dataloader.num_batch_per_epoch = TRIAL_STEPS
        shutil.rmtree(folder, ignore_errors=True)
        write_atomically(folder / 'config.py', cfg.pretty_text)
        launched = time.time()
        command = ['train', folder / 'config.py', '--work-dir', folder]
        run_tool(command, folder / 'train.log', lock, lambda: None, processes)
        counts = {
            split: len(read_tested(cfg[f'{split}_dataloader'].dataset)['images']) if split == 'val' or tested else 0
            for split in ('val', 'test')
        }
        test_share = counts['test'] / counts['val']
        stopwatch = read_json(folder / 'stopwatch.json', ORIGIN)
        # the stopwatch counts the cores of one process
        cores = {key: np.multiply(value, processes).tolist() for key, value in stopwatch['cores'].items()}
        content = dict(
            pace=asdict(read_pace(stopwatch['clock'], launched, steps, test_share)),
            core_pace=asdict(read_pace(cores, 0, steps, test_share)),
            seconds=time.time() - launched,
        )
        write_json(done, content)
    content = read_json(done, ORIGIN)
    return dict(content, pace=Pace(**content['pace']), core_pace=Pace(**content['core_pace']))
