import numpy as np
import torch
from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from cellseg_mm.datasets import inner_datasets


@HOOKS.register_module()
class SeedHook(Hook):
    """Draw all of training's random numbers from the run's seed and where the run is, so that it resumes exactly.

    Augmentation draws from (seed, epoch, image), see :class:`CellDataset`; the model, whose samplers choose anchors and
    proposals, from (seed, iteration, rank). No state of a generator has to be saved, and what else draws in between,
    a validation for instance, changes nothing.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Before the epoch's first batch is asked for."""
        for dataset in inner_datasets(runner.train_dataloader.dataset):
            if hasattr(dataset, 'set_randomness'):
                dataset.set_randomness(runner.seed, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """After the batch is loaded: data loaders draw a number from torch when they start, and only then."""
        key = np.random.SeedSequence((runner.seed, runner.iter, get_rank()))
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))
