import copy
import math
from collections import defaultdict

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from cellseg_mm.datasets.cell_dataset import fixed_randomness
from cellseg_mm.engine.precision import training_precision
from cellseg_mm.models import bare_detector
from cellseg_mm.utils import inner_dataset_configs, scored_dataset

WINDOW_SHARE = 0.1  # windows of a validation loss, as a share of an epoch's training windows
UNAUGMENTED = ('LoadImageFromFile', 'LoadRecentImage', 'LoadCellAnnotations', 'RandomWindow', 'ApplyAffine', 'Resize')
UNAUGMENTED += ('PackDetInputs',)


def loss_dataloader(val_dataloader: dict) -> dict:
    """The validation loader's config for losses: annotations are loaded before the image is resized.

    For metrics they are loaded after it, so that they stay at the image's own size, where predictions are compared; a
    loss on these would compare two geometries. No image is repeated to fill up the ranks.
    """
    loader = copy.deepcopy(val_dataloader)
    loader.update(persistent_workers=False, sampler=dict(type='DefaultSampler', shuffle=False, round_up=False))
    for dataset in inner_dataset_configs(loader.dataset):
        dataset.pipeline = sorted(dataset.pipeline, key=lambda step: not step.type.startswith('Load'))
    return loader


def window_dataloader(val_dataloader: dict, train_dataloader: dict, count: int) -> dict:
    """A loader's config for losses on windows of the validation images, the same ones each time, not augmented.

    Args:
        val_dataloader (dict): Config that gives the images.
        train_dataloader (dict): Config that gives the windows and the batch size.
        count (int): Windows of each image.
    """
    loader = loss_dataloader(val_dataloader)
    loader.batch_size = train_dataloader.batch_size
    steps = next(inner_dataset_configs(train_dataloader.dataset)).pipeline
    images = dict(scored_dataset(loader.dataset), pipeline=[step for step in steps if step.type in UNAUGMENTED])
    loader.dataset = dict(type='RedrawDataset', times=count, dataset=images)
    return loader


@torch.no_grad()
def mean_losses(model: torch.nn.Module, dataloader: torch.utils.data.DataLoader) -> dict:
    """Losses in eval mode, averaged over the images of all ranks.

    Args:
        model (BaseDetector): The model; its mode is restored.
        dataloader (DataLoader): Gives this rank's images.

    Returns:
        dict[str, float]: ``loss``, the sum, and its parts.
    """
    was_training = model.training
    model.eval()
    sums, num_images = defaultdict(float), 0
    for batch in dataloader:
        data = model.data_preprocessor(batch, training=False)
        if getattr(model.data_preprocessor, 'pad_mask', False):  # as in training; mmdet pads masks there alone
            model.data_preprocessor.pad_gt_masks(data['data_samples'])
        _, parts = model.parse_losses(model(**data, mode='loss'))
        for name, value in parts.items():
            sums[name] += float(value) * len(data['data_samples'])
        num_images += len(data['data_samples'])
    model.train(was_training)
    gathered = all_gather_object((dict(sums), num_images))
    total = sum(count for _, count in gathered)
    names = dict.fromkeys(name for part, _ in gathered for name in part)
    return {name: sum(part.get(name, 0.0) for part, _ in gathered) / total for name in names}


@HOOKS.register_module()
class ValLossHook(Hook):
    """Log the loss on the validation images after each epoch, as ``val/loss`` and its parts.

    Where training takes windows, the loss is of windows too, a tenth as many as an epoch has, and is logged as
    ``val/window_loss``. On whole images it would take longer than the epoch itself.

    mmdet's validation predicts and scores, and computes no loss. The samplers draw the same anchors and proposals each
    time, so that epochs can be compared, and training's own random numbers are left alone.
    """

    def __init__(self) -> None:
        self._dataloader = None

    def after_train_epoch(self, runner: Runner) -> None:
        """Compute and log."""
        with fixed_randomness(runner.seed), torch.random.fork_rng(), training_precision(runner):
            torch.manual_seed(runner.seed)
            if self._dataloader is None:
                self._prefix, self._dataloader = self._build(runner)
            losses = mean_losses(bare_detector(runner.model), self._dataloader)
        losses = {f'{self._prefix}{name}': value for name, value in losses.items()}
        runner.visualizer.add_scalars({f'val/{name}': value for name, value in losses.items()}, step=runner.epoch + 1)
        runner.logger.info(
            f'Epoch(val) [{runner.epoch + 1}]  ' + '  '.join(f'{name}: {value:.4f}' for name, value in losses.items())
        )

    def _build(self, runner: Runner) -> tuple:
        """The prefix of the losses' names, and the loader."""
        train, val = runner.cfg.train_dataloader, runner.cfg.val_dataloader
        steps = next(inner_dataset_configs(train.dataset)).pipeline
        if not any(step.type == 'RandomWindow' for step in steps):
            return '', runner.build_dataloader(loss_dataloader(val), seed=runner.seed)
        images = len(runner.build_dataloader(val, seed=runner.seed).dataset)
        count = math.ceil(len(runner.train_dataloader.dataset) * WINDOW_SHARE / images)
        return 'window_', runner.build_dataloader(window_dataloader(val, train, count), seed=runner.seed)
