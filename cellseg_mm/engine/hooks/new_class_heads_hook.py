from collections.abc import Sequence

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class NewClassHeadsHook(Hook):
    """Leave weights out of the checkpoint that a run starts from, so that the model keeps its new, random ones.

    Without it a class head of as many classes would be loaded even if the classes differ or are in another order.

    Args:
        weights (Sequence[str]): Names of the weights in the model.
    """

    def __init__(self, weights: Sequence) -> None:
        self.weights = set(weights)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remove the weights. A resumed run loads all of them."""
        if runner._resume:
            return
        state = checkpoint.get('state_dict', checkpoint)
        for name in [name for name in state if name.removeprefix('module.') in self.weights]:
            del state[name]
