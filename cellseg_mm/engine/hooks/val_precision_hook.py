from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from cellseg_mm.engine.precision import training_precision


@HOOKS.register_module()
class ValPrecisionHook(Hook):
    """Validate in the precision in which the model trains, if it trains on a CPU."""

    def before_val(self, runner: Runner) -> None:
        """Change to that precision."""
        self._precision = training_precision(runner)
        self._precision.__enter__()

    def after_val(self, runner: Runner) -> None:
        """Change back."""
        self._precision.__exit__(None, None, None)
