import numpy as np
import torch
from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from cellseg_mm.datasets import inner_datasets


@HOOKS.register_module()
class SeedHook(Hook):
    """Derive all random numbers of training from the seed and the position in the run, so that it resumes exactly.

    Augmentation draws from (seed, epoch, image), see :class:`CellDataset`; the model, whose samplers choose anchors and
    proposals, from (seed, iteration, rank). No generator's state has to be saved, and other draws in between, such as
    those of a validation, change nothing.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed augmentation, before the epoch's first batch is requested."""
        for dataset in inner_datasets(runner.train_dataloader.dataset):
            if hasattr(dataset, 'set_randomness'):
                dataset.set_randomness(runner.seed, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed the model, after the batch is loaded: data loaders draw a number from torch when they start."""
        key = np.random.SeedSequence((runner.seed, runner.iter, get_rank()))
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))
