from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from cellseg_mm.datasets import inner_datasets


@HOOKS.register_module()
class DatasetEpochHook(Hook):
    """Tell the training set the run's seed and epoch, which its augmentation draws from."""

    def before_train_epoch(self, runner: Runner) -> None:
        """Before the epoch's first batch is asked for."""
        for dataset in inner_datasets(runner.train_dataloader.dataset):
            if hasattr(dataset, 'set_randomness'):
                dataset.set_randomness(runner.seed, runner.epoch)
