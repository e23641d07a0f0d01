from pathlib import Path

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from cellseg_mm.utils import UserError


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop a training whose loss is nan or infinite before a checkpoint is saved, and name the batch's images."""

    priority = 'VERY_HIGH'

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Check the losses of the iteration that has just ended.

        Raises:
            UserError: With the iteration, the losses that are not finite, the images, and the last good checkpoint.
        """
        wrong = [name for name, value in outputs.items() if 'loss' in name and not bool(torch.isfinite(value).all())]
        if not wrong:
            return
        images = ', '.join(Path(sample.img_path).name for sample in data_batch['data_samples'])
        last = runner.message_hub.runtime_info.get('last_ckpt')
        raise UserError(
            f'training stopped at iteration {runner.iter + 1} (epoch {runner.epoch + 1}): {", ".join(wrong)} is not '
            f'finite, with the images {images}. Last good checkpoint: {last or "none, because no epoch had ended"}. '
            'Check these images, lower optim_wrapper.optimizer.lr, or clip gradients (optim_wrapper.clip_grad)'
        )
