from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class OperatingPointHook(Hook):
    """Keep the score threshold that validation chose: checkpoints carry ``meta['operating_point']``.

    It is a dict of ``score_thr`` and ``epoch``, the epoch whose validation chose it. A checkpoint that is saved before
    its own epoch is validated has the threshold of the validation before; the best checkpoint has its own.

    Args:
        key (str): Name of the metric that holds the threshold.
    """

    def __init__(self, key: str = 'cells/score_thr') -> None:
        self.key = key
        self._operating_point = None

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Keep the threshold; CheckpointHook, of lower priority, saves the best checkpoint after this."""
        if metrics and self.key in metrics:
            self._operating_point = dict(score_thr=float(metrics[self.key]), epoch=runner.epoch)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the threshold."""
        if self._operating_point:
            checkpoint['meta']['operating_point'] = self._operating_point

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take over the threshold of a run that is resumed."""
        self._operating_point = checkpoint.get('meta', {}).get('operating_point')

    def before_train(self, runner: Runner) -> None:
        """Forget the threshold of a checkpoint from which a new run only starts (``--load-from``)."""
        if runner.epoch == 0:
            self._operating_point = None
