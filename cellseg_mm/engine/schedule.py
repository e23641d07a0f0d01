"""An ablation that has to fit in a time: as many epochs as its slowest row has time for, the same for every run.

A trial of each row, some steps and a validation in a process of its own, tells how long the parts of a run take. What
was chosen stands in ``OUT/schedule.json`` and holds for all runs there, so that their digests stay equal and they add
up.
"""

import fcntl
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tqdm import tqdm

from cellseg_mm.evaluation import read_tested
from cellseg_mm.utils import UserError, write_atomically, write_json

from .ablation import Row, run_tool
from .provenance import provenance

WARM_UP = 10  # steps of a trial that are not counted, or half of them if there are fewer than 20
TRIAL_STEPS = 50  # or as many as an epoch has


@dataclass(frozen=True)
class Pace:
    """Seconds that the parts of a row's run take.

    Attributes:
        start: From the start of the tool to its first step. Testing is taken to start as training does.
        step: The mean of the counted ones.
        steps: Their number an epoch (no seconds).
        epoch_end: Validation loss and checkpoint.
        validation: Of all validation images.
        test: Of all test images, each taken to last as long as one of validation.
    """

    start: float
    step: float
    steps: int
    epoch_end: float
    validation: float
    test: float

    def of_run(self, epochs: int, val_interval: int) -> float:
        """Seconds of training and testing; validated are each ``val_interval``-th epoch and the last."""
        validations = -(-epochs // val_interval)
        epoch = self.step * self.steps + self.epoch_end
        return 2 * self.start + epochs * epoch + validations * self.validation + self.test


def read_pace(stopwatch: dict, launched: float, steps: int, test_share: float) -> Pace:
    """The pace that a trial showed.

    Args:
        stopwatch (dict): Of :class:`StopwatchHook`.
        launched (float): When the tool was started, seconds since 1970.
        steps (int): Of a whole epoch.
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


def epochs_within(seconds: float, paces: dict, val_interval: int) -> int:
    """The most epochs that a run of any row has time for.

    Args:
        seconds (float): Of one run.
        paces (dict[str, Pace]): By row.
        val_interval (int): Epochs from one validation to the next.

    Raises:
        UserError: If the slowest row has no time for one epoch.
    """

    def slowest(epochs: int) -> tuple:
        return max((pace.of_run(epochs, val_interval), name) for name, pace in paces.items())

    needed, name = slowest(1)
    if needed > seconds:
        raise UserError(
            f'--budget leaves {max(seconds, 0):.0f} s for a run, and {name} needs {needed:.0f} s for one epoch and its '
            'test; give more time, fewer seeds or fewer rows'
        )
    epochs = 1
    while slowest(epochs + 1)[0] <= seconds:
        epochs += 1
    return epochs


def set_epochs(cfg: Config, epochs: int) -> None:
    """Train so many epochs; learning rates that went down to the last epoch go down to the new one.

    Args:
        cfg (Config): Changed in place.
        epochs (int): In place of ``train_cfg.max_epochs``.
    """
    last = cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs
    for scheduler in cfg.param_scheduler:
        for key in ('T_max', 'end'):
            if scheduler.get('by_epoch', True) and scheduler.get(key) == last:
                scheduler[key] = epochs


def take_schedule(rows: list, num_seeds: int, budget: float | None, out: Path) -> dict | None:
    """The schedule of an ablation: the one that it has, or one that fits in a time, which it then has.

    Args:
        rows (list[Row]): Their configs' epochs do not count.
        num_seeds (int): Runs of each row.
        budget (float | None): Seconds for all runs, trials included. None chooses nothing.
        out (Path): Folder of the ablation.

    Returns:
        dict | None: With ``epochs``, and what it was chosen from. None if there is none.

    Raises:
        UserError: If a trial fails, or the time is too short.
    """
    path = out / 'schedule.json'
    if budget is None or path.exists():
        return json.loads(path.read_text('utf-8')) if path.exists() else None
    out.mkdir(parents=True, exist_ok=True)
    with open(out / 'schedule.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second waits, and takes what the first has chosen
        if path.exists():
            return json.loads(path.read_text('utf-8'))
        trials = {row.name: _try(row, out / 'trials', lock) for row in tqdm(rows, desc='trials', unit='row')}
        paces = {name: pace for name, (pace, _) in trials.items()}
        left = budget - sum(seconds for _, seconds in trials.values())
        epochs = epochs_within(left / len(rows) / num_seeds, paces, rows[0].cfg.train_cfg.val_interval)
        measured = {name: asdict(pace) for name, pace in paces.items()}
        schedule = dict(epochs=epochs, budget=budget, seeds=num_seeds, warm_up=WARM_UP, trials=measured, **provenance())
        write_json(path, schedule)
        shutil.rmtree(out / 'trials')
    return schedule


def _try(row: Row, trials: Path, lock: object) -> tuple:
    """Train some steps and validate, unless an earlier call that was cut off has done it.

    Returns:
        tuple: The row's :class:`Pace`, and the seconds that the trial took.
    """
    folder = trials / f'{row.name}-{row.digest}'
    done = folder / 'pace.json'
    if not done.exists():
        cfg = Config(row.cfg.to_dict())
        set_epochs(cfg, 1)
        cfg.custom_hooks = [*cfg.custom_hooks, dict(type='StopwatchHook')]
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
        tested, validated = (
            len(read_tested(cfg[f'{split}_dataloader'].dataset)['images']) for split in ('test', 'val')
        )
        stopwatch = json.loads((folder / 'stopwatch.json').read_text('utf-8'))
        pace = read_pace(stopwatch, launched, steps, tested / validated)
        write_json(done, dict(pace=asdict(pace), seconds=time.time() - launched))
    content = json.loads(done.read_text('utf-8'))
    return Pace(**content['pace']), content['seconds']
