from mmdet.registry import HOOKS
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class ResumeValidationHook(Hook):
    """Make up for a validation that an interrupted run did not finish.

    An epoch's checkpoint is saved before the epoch is validated, and once more if it turns out to be the best. A run
    that is killed in between would go on with the next epoch: this one would have no figures, and could not become the
    best.
    """

    # after CheckpointHook has looked up the best checkpoint so far
    priority = 'LOWEST'

    def before_val_epoch(self, runner: Runner) -> None:
        """Have what is saved from now on say that this epoch is validated: nothing is, until it is."""
        runner.message_hub.update_info('validated_epoch', runner.epoch)

    def before_train(self, runner: Runner) -> None:
        """Validate the epoch that the run goes on from, if that was due and is not in the checkpoint."""
        loop, epoch = runner.train_loop, runner.epoch
        is_due = epoch % loop.val_interval == 0 or epoch == loop.max_epochs
        is_done = runner.message_hub.runtime_info.get('validated_epoch') == epoch
        if runner.val_loop is not None and epoch >= max(loop.val_begin, 1) and is_due and not is_done:
            for hook in runner.hooks:
                if isinstance(hook, CheckpointHook):
                    # which it forgets, and then would not save the epoch's checkpoint anew if it is the best
                    hook.last_ckpt = runner.message_hub.get_info('last_ckpt')
            runner.val_loop.run()
