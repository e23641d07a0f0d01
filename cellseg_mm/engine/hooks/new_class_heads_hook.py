from collections.abc import Sequence

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class NewClassHeadsHook(Hook):
    """Leaves weights out of the checkpoint that a run starts from, so that they are the model's own, new ones.

    Without it a class head of as many classes is taken over even where the classes are others or in another order.

    Args:
        weights (Sequence[str]): Their names in the model.
    """

    def __init__(self, weights: Sequence) -> None:
        self.weights = set(weights)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take them out. A run that is resumed goes on with all of its own."""
        if runner._resume:
            return
        state = checkpoint.get('state_dict', checkpoint)
        for name in [name for name in state if name.removeprefix('module.') in self.weights]:
            del state[name]
