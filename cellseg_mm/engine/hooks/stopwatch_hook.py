import time
from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from cellseg_mm.utils import cpu_seconds, write_json


@HOOKS.register_module()
class StopwatchHook(Hook):
    """Record when each part of an epoch ended, in the work dir's ``stopwatch.json``.

    It holds two counts, ``clock`` (seconds since 1970) and ``cores`` (CPU seconds of the process and its workers), each
    with the keys ``began``, ``steps`` (a list), ``trained`` (after validation loss and checkpoint) and ``validated``,
    of the last epoch that was validated. It serves trials, see :mod:`cellseg_mm.engine.budget`.
    """

    priority = 'LOWEST'  # after the other hooks

    def before_train_epoch(self, runner: Runner) -> None:
        """Start both counts."""
        self.times = {name: dict(began=count(), steps=[]) for name, count in COUNTS.items()}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Record a step; it has ended on the device too, because FiniteLossHook has read its loss."""
        for name, count in COUNTS.items():
            self.times[name]['steps'].append(count())

    def after_train_epoch(self, runner: Runner) -> None:
        """Record the end of training."""
        self._note('trained')

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Record the end of validation, and write the file."""
        self._note('validated')
        write_json(Path(runner.work_dir) / 'stopwatch.json', self.times)

    def _note(self, key: str) -> None:
        for name, count in COUNTS.items():
            self.times[name][key] = count()


COUNTS = dict(clock=time.time, cores=cpu_seconds)
