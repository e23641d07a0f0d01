import numpy as np
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from cellseg_mm.datasets import inner_datasets
from cellseg_mm.datasets.transforms import find_resize, resized_size


@HOOKS.register_module()
class InputScaleHook(Hook):
    """Keep the scale at which the model saw its training images: checkpoints carry ``meta['input_scale']``.

    It is a list of three numbers, px of the model's input to a px of the image: the smallest, the median and the
    largest of the training images. A model trained on cells of one size does not find cells of another, so other
    images are best shown at the same scale.
    """

    def __init__(self) -> None:
        self._scales = None

    def before_train(self, runner: Runner) -> None:
        """Compute the scales of the pipeline's Resize; 1 without one."""
        scales = [scale for dataset in inner_datasets(runner.train_dataloader.dataset) for scale in _scales(dataset)]
        self._scales = [float(value) for value in np.percentile(scales, [0, 50, 100])]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the scales."""
        checkpoint['meta']['input_scale'] = self._scales


def _scales(dataset: object) -> list:
    resize = find_resize(dataset.pipeline.transforms)
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    return [resized_size(resize, info['width'], info['height'])[1] for info in infos]
