import math

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from cellseg_mm.datasets import inner_datasets
from cellseg_mm.datasets.transforms import find_resize, resized_size
from cellseg_mm.models import bare_detector
from cellseg_mm.models.detector_config import anchor_generator
from cellseg_mm.models.task_modules import best_anchor_iou


@HOOKS.register_module()
class AnchorFitHook(Hook):
    """Before training, log which share of the training cells no anchor fits, and warn if it is large.

    A cell whose best anchor IoU is below the negative threshold is never a positive, and its anchors are trained as
    background. Boxes are measured after the pipeline's Resize; other geometric transforms do not count. For detectors
    without anchors the hook does nothing.

    Args:
        iou_thr (float): Best IoU below which a cell counts as missed: mmdet's ``neg_iou_thr``.
        max_share (float): Share of missed cells above which a warning is logged.
    """

    def __init__(self, iou_thr: float = 0.3, max_share: float = 0.1) -> None:
        self.iou_thr = iou_thr
        self.max_share = max_share

    def before_train(self, runner: Runner) -> None:
        """Compute and log the share; nothing for a detector without anchors."""
        generator = anchor_generator(bare_detector(runner.model))
        if generator is None:
            return
        datasets = inner_datasets(runner.train_dataloader.dataset)
        best = torch.cat([dataset_anchor_iou(dataset, generator) for dataset in datasets])
        if not len(best):
            return
        share = (best < self.iou_thr).float().mean().item()
        message = f'anchors: best IoU below {self.iou_thr} for {share:.1%} of {len(best):,} training cells'
        if share <= self.max_share:
            runner.logger.info(message)
        else:
            runner.logger.warning(
                f'{message}; these cannot be learnt. Smaller anchors (scales of the anchor_generator) or a '
                "larger input (the pipelines' Resize) fit small cells better"
            )


def dataset_anchor_iou(dataset, prior_generator) -> torch.Tensor:
    """Best anchor IoU of each cell of a dataset after its pipeline's Resize.

    Args:
        dataset (BaseDetDataset): Annotations in px of the stored images.
        prior_generator (AnchorGenerator): The anchor generator of the model.

    Returns:
        Tensor: (N,) float32 over all cells of all images, in their order.
    """
    resize = find_resize(dataset.pipeline.transforms)
    results = [torch.zeros(0)]
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        cells = [instance['bbox'] for instance in info['instances'] if not instance['ignore_flag']]
        boxes = torch.tensor(cells, dtype=torch.float32)
        if not len(boxes):
            continue
        width, height = info['width'], info['height']
        (new_width, new_height), _ = resized_size(resize, width, height)
        boxes = boxes * torch.tensor([new_width / width, new_height / height] * 2)
        sizes = [(math.ceil(new_height / y), math.ceil(new_width / x)) for x, y in prior_generator.strides]
        anchors = [level.cpu().float() for level in prior_generator.base_anchors]
        results.append(best_anchor_iou(boxes, anchors, prior_generator.strides, sizes))
    return torch.cat(results)
