import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from torch import Tensor


@MODELS.register_module()
class JointBatchRoIHead(StandardRoIHead):
    """mmdet's RoI head; in training by several processes, its losses are those of the joint batch.

    In mmdet each process divides its losses by its own number of RoIs, the mask loss by its own number of cells among
    them, and gradients are averaged over processes: a cell in an image with few would weigh more than one in an image
    with many. Here each process's losses are weighted by its share of these numbers, so that every cell weighs the
    same. With one process nothing changes. Validation losses do not change either, because there processes may have
    different numbers of batches.
    """

    def bbox_loss(self, x: tuple, sampling_results: list) -> dict:
        """See :meth:`StandardRoIHead.bbox_loss`."""
        results = super().bbox_loss(x, sampling_results)
        weight = self._weight(sum(len(result.priors) for result in sampling_results), x[0])
        losses = results['loss_bbox']
        # mmdet leaves it out if there is no RoI, because all of the image is ignored
        losses.setdefault('loss_cls', results['cls_score'].sum())
        losses.update(loss_cls=losses['loss_cls'] * weight, loss_bbox=losses['loss_bbox'] * weight)
        return results

    def mask_loss(self, x: tuple, sampling_results: list, bbox_feats: Tensor, batch_gt_instances: list) -> dict:
        """See :meth:`StandardRoIHead.mask_loss`."""
        results = super().mask_loss(x, sampling_results, bbox_feats, batch_gt_instances)
        weight = self._weight(sum(len(result.pos_priors) for result in sampling_results), x[0])
        results['loss_mask'].update(loss_mask=results['loss_mask']['loss_mask'] * weight)
        return results

    def _weight(self, count: int, features: Tensor) -> Tensor | float:
        """A number of RoIs over its mean in all processes; 0 if all have none. All processes must call this."""
        if not self.training:
            return 1.0
        count = torch.tensor(float(count), device=features.device)
        return count / reduce_mean(count).clamp(min=1e-6)
