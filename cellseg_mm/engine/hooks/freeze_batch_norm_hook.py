from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm


@HOOKS.register_module()
class FreezeBatchNormHook(Hook):
    """Train with BatchNorm's running statistics, as they are in testing, in place of those of the batch.

    For a last phase with batches of few images: their own statistics differ from those of all images, so that what the
    weights learn on them does not hold in testing. BatchNorm's weights and biases go on training.
    """

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Before each step, because the model's ``train()`` sets BatchNorm back."""
        for module in runner.model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
