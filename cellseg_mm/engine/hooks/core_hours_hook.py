import time

from mmdet.registry import HOOKS
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from cellseg_mm.utils import cpu_seconds


@HOOKS.register_module()
class CoreHoursHook(Hook):
    """Keep in each checkpoint what the run has cost so far, and say it at the end.

    ``meta['core_hours']`` is the CPU time of all training processes and their data workers, validation included, in
    hours of one core. A run that is resumed goes on counting; steps that were lost at a crash are not counted.
    """

    def __init__(self) -> None:
        self.earlier = 0.0
        self._others = cpu_seconds() - time.process_time()  # of processes that ended before: a trial of --budget

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take over what the run had cost when it was interrupted."""
        if runner._resume:
            self.earlier = checkpoint.get('meta', {}).get('core_hours', 0.0)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the cost."""
        checkpoint['meta']['core_hours'] = self._core_hours()

    def after_train(self, runner: Runner) -> None:
        """Say the cost."""
        print_log(f'trained in {self._core_hours():.2f} core-hours (CPU time)', runner.logger.name)

    def _core_hours(self) -> float:
        """This process stands for the others of the run: their number times its own time."""
        return self.earlier + (cpu_seconds() - self._others) * get_world_size() / 3600
