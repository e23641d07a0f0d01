import math

import torch
from mmdet.models.task_modules.assigners import AssignResult, BboxOverlaps2D, MaxIoUAssigner
from mmdet.models.task_modules.assigners.max_iou_assigner import perm_repeat_bboxes
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from .covered_share import covered_share
from .sparse_overlaps import match_priors, overlapping_pairs


@TASK_UTILS.register_module()
class SparseMaxIoUAssigner(MaxIoUAssigner):
    """mmdet's MaxIoUAssigner without the (ground truth, priors) matrix of overlaps.

    Results are the same, bit by bit: overlaps come from the same function, and the first of equal ones counts, as in
    ``torch.max``, on any device. Time depends on the pairs that overlap, under 1 % of the matrix for 600 cells on
    262,000 anchors; memory on a chunk of these pairs and on the number of priors. Boxes must be finite.

    Ignored regions differ: mmdet's ``ignore_iof_thr`` compares with their boxes, and the box of a region may hold many
    cells. If regions have masks, a prior that they mostly cover does not count as background; a prior that fits a cell
    stays assigned to it.

    Args:
        *args: As for :class:`mmdet.models.task_modules.MaxIoUAssigner`. ``gpu_assign_thr`` has no effect, because
            there is no matrix to keep off the GPU.
        ignore_mask_thr (float): A prior without a cell is left out of training if masks of ignored regions cover more
            than this share of its pixels, as a prediction is left out of scoring; below 0 no prior is left out.
        **kwargs: As for MaxIoUAssigner.

    Raises:
        ValueError: For an ``iou_calculator`` other than the default: it may give boxes that do not overlap more than 0.
    """

    def __init__(self, *args, ignore_mask_thr: float = 0.5, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.ignore_mask_thr = ignore_mask_thr
        calculator = self.iou_calculator
        if type(calculator) is not BboxOverlaps2D or calculator.dtype is not None:
            raise ValueError(
                f'{type(self).__name__} needs iou_calculator=dict(type="BboxOverlaps2D"), not {calculator}'
            )

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs,
    ) -> AssignResult:
        """See :meth:`mmdet.models.task_modules.MaxIoUAssigner.assign`."""
        result = self._assign(pred_instances, gt_instances, gt_instances_ignore)
        masks = None if gt_instances_ignore is None else gt_instances_ignore.get('masks')
        if masks and self.ignore_mask_thr >= 0:
            priors = _corners(pred_instances.priors)
            region = torch.from_numpy(masks.to_ndarray().any(axis=0))
            covered = covered_share(region.to(priors.device), priors)
            result.gt_inds[(result.gt_inds == 0) & (covered > self.ignore_mask_thr)] = -1
        return result

    def _assign(
        self, pred_instances: InstanceData, gt_instances: InstanceData, gt_instances_ignore: InstanceData | None
    ) -> AssignResult:
        boxes, priors = _corners(gt_instances.bboxes), _corners(pred_instances.priors)
        if not len(boxes) or not len(priors):
            return self.assign_wrt_overlaps(boxes.new_zeros(len(boxes), len(priors)), gt_instances.labels)
        if self.perm_repeat_gt_cfg is not None:
            boxes = perm_repeat_bboxes(boxes, self.iou_calculator, self.perm_repeat_gt_cfg)
        pairs = overlapping_pairs(boxes, priors)
        floor = priors.new_zeros(len(priors), dtype=torch.promote_types(boxes.dtype, priors.dtype))
        if gt_instances_ignore is not None and self.ignore_iof_thr > 0:
            ignored = self._ignored(_corners(gt_instances_ignore.bboxes), priors)
            floor[ignored] = -1
            kept = (~ignored).nonzero().squeeze(1)
            pairs = ((box, kept[prior], overlap) for box, prior, overlap in overlapping_pairs(boxes, priors[kept]))
        min_best = self.min_pos_iou if self.match_low_quality else math.inf
        max_overlaps, first_box, claimed = match_priors(pairs, floor, len(boxes), min_best, self.gt_max_assign_all)

        gt_inds = torch.full_like(claimed, -1)
        # as in mmdet, a threshold that is neither float nor tuple makes no negatives
        if isinstance(self.neg_iou_thr, float):
            gt_inds[(max_overlaps >= 0) & (max_overlaps < self.neg_iou_thr)] = 0
        elif isinstance(self.neg_iou_thr, tuple):
            gt_inds[(max_overlaps >= self.neg_iou_thr[0]) & (max_overlaps < self.neg_iou_thr[1])] = 0
        gt_inds = torch.where(max_overlaps >= self.pos_iou_thr, first_box + 1, gt_inds)
        gt_inds = torch.where(claimed > 0, claimed, gt_inds)
        labels = torch.where(gt_inds > 0, gt_instances.labels[(gt_inds - 1).clamp(min=0)], -1)
        return AssignResult(num_gts=len(boxes), gt_inds=gt_inds, max_overlaps=max_overlaps, labels=labels)

    def _ignored(self, regions: Tensor, priors: Tensor) -> Tensor:
        """(N,) bool: whether a prior lies in an ignored region, by intersection over prior or over region."""

        def overlaps(regions: Tensor, priors: Tensor) -> Tensor:
            if self.ignore_wrt_candidates:
                return bbox_overlaps(priors, regions, mode='iof').mT
            return bbox_overlaps(regions, priors, mode='iof')

        ignored = torch.zeros(len(priors), dtype=torch.bool, device=priors.device)
        for _, prior, overlap in overlapping_pairs(regions, priors, overlaps):
            ignored[prior[overlap > self.ignore_iof_thr]] = True
        return ignored


def _corners(boxes: object) -> Tensor:
    """The (N, 4) corners of mmdet's boxes or of a tensor, without a column of scores."""
    return get_box_tensor(boxes)[:, :4]
