import numpy as np
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from cellseg_mm.datasets import inner_datasets
from cellseg_mm.datasets.cell_dataset import UNKNOWN_CLASS
from cellseg_mm.models.bbox_heads import OneClassBBoxHead
from cellseg_mm.utils import UserError


@HOOKS.register_module()
class TrainingSetHook(Hook):
    """Before training, log the numbers of images and of cells of each class, and warn of a class without cells.

    Raises:
        UserError: If a set has cells of unknown class (:class:`CellDataset`), and the model cannot learn from them.
    """

    def before_train(self, runner: Runner) -> None:
        """Count and log."""
        datasets = list(inner_datasets(runner.train_dataloader.dataset))
        classes = datasets[0].metainfo['classes']
        labels = [
            instance['bbox_label']
            for dataset in datasets
            for index in range(len(dataset))
            for instance in dataset.get_data_info(index)['instances']
            if not instance['ignore_flag']
        ]
        unknown = labels.count(UNKNOWN_CLASS)
        counts = np.bincount([label for label in labels if label != UNKNOWN_CLASS], minlength=len(classes)).tolist()
        by_class = ', '.join(f'{name} {count:,}' for name, count in zip(classes, counts, strict=True))
        if unknown:
            by_class += f', of unknown class {unknown:,}'
            if not any(isinstance(module, OneClassBBoxHead) for module in runner.model.modules()):
                raise UserError(
                    f'train_dataloader: {unknown:,} cells are of unknown class (unknown_class=True), from which only '
                    'a model with OneClassBBoxHead learns'
                )
        images = sum(len(dataset) for dataset in datasets)
        runner.logger.info(f'training set: {images:,} images, {len(labels):,} cells ({by_class})')
        for name, count in zip(classes, counts, strict=True):
            if not count:
                runner.logger.warning(f'no training cell is a {name}: the model will never find one')
