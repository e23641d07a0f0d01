import time
from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from cellseg_mm.utils import write_json


@HOOKS.register_module()
class StopwatchHook(Hook):
    """Note when each part of an epoch ended, as seconds since 1970, in the work dir's ``stopwatch.json``.

    Its keys: ``began``, ``steps`` (a list), ``trained`` (with validation loss and checkpoint) and ``validated``, of the
    last epoch that was validated. For trials, see :mod:`cellseg_mm.engine.schedule`.
    """

    priority = 'LOWEST'  # when the other hooks are done

    def before_train_epoch(self, runner: Runner) -> None:
        """Start."""
        self.times = dict(began=time.time(), steps=[])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """A step is done: FiniteLossHook has waited for its loss."""
        self.times['steps'].append(time.time())

    def after_train_epoch(self, runner: Runner) -> None:
        """The epoch is done."""
        self.times['trained'] = time.time()

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Write all of it."""
        write_json(Path(runner.work_dir) / 'stopwatch.json', dict(self.times, validated=time.time()))
