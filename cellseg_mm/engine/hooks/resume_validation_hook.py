from mmdet.registry import HOOKS
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class ResumeValidationHook(Hook):
    """Run the validation that an interrupted run did not finish.

    An epoch's checkpoint is saved before the epoch is validated, and once more if it turns out to be the best. A run
    that was killed in between would go on with the next epoch: this one would have no metrics, and could not become the
    best.
    """

    # after CheckpointHook has looked up the best checkpoint so far
    priority = 'LOWEST'

    def before_val_epoch(self, runner: Runner) -> None:
        """Mark the epoch as validated; nothing is saved until the validation has ended."""
        runner.message_hub.update_info('validated_epoch', runner.epoch)

    def before_train(self, runner: Runner) -> None:
        """Validate the epoch of the resumed checkpoint, if a validation was due and the checkpoint lacks it."""
        loop, epoch = runner.train_loop, runner.epoch
        is_due = epoch % loop.val_interval == 0 or epoch == loop.max_epochs
        is_done = runner.message_hub.runtime_info.get('validated_epoch') == epoch
        if runner.val_loop is not None and epoch >= max(loop.val_begin, 1) and is_due and not is_done:
            for hook in runner.hooks:
                if isinstance(hook, CheckpointHook):
                    # it forgets this on resuming, and then would not save the epoch's checkpoint again as the best
                    hook.last_ckpt = runner.message_hub.get_info('last_ckpt')
            runner.val_loop.run()
