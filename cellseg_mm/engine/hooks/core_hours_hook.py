import time

from mmdet.registry import HOOKS
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from cellseg_mm.utils import cpu_seconds


@HOOKS.register_module()
class CoreHoursHook(Hook):
    """Keep in each checkpoint what the run has cost so far, and log it at the end.

    ``meta['core_hours']`` is the CPU time of all training processes and their data workers, including validation, in
    hours of one core. A resumed run goes on counting; steps lost in a crash do not count.
    """

    def __init__(self) -> None:
        self.earlier = 0.0
        self._others = cpu_seconds() - time.process_time()  # of processes that ended before, such as a budget's trials

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take over the cost of a run that is resumed."""
        if runner._resume:
            self.earlier = checkpoint.get('meta', {}).get('core_hours', 0.0)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the cost."""
        checkpoint['meta']['core_hours'] = self._core_hours()

    def after_train(self, runner: Runner) -> None:
        """Log the cost."""
        print_log(f'trained in {self._core_hours():.2f} core-hours (CPU time)', runner.logger.name)

    def _core_hours(self) -> float:
        """The time of this process times their number: each process is assumed to take as long."""
        return self.earlier + (cpu_seconds() - self._others) * get_world_size() / 3600
