import torch
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor


def most_likely_class(logits: Tensor) -> Tensor:
    """Logits under which each box is of its most likely class, as surely as it is a cell of any class.

    For instance, probabilities of 0.4, 0.3 and 0.1 for three classes, and 0.2 for the background, become 0.8, 0 and 0,
    and 0.2.

    Args:
        logits (Tensor): (N, C + 1), the background last.

    Returns:
        Tensor: (N, C + 1), with probabilities as above after a softmax.
    """
    probabilities = logits.softmax(dim=1)
    background, best = probabilities[:, -1:], probabilities[:, :-1].argmax(dim=1, keepdim=True)
    return torch.zeros_like(logits).scatter(1, best, 1 - background).slice_scatter(background, 1, -1).log()


@MODELS.register_module()
class OneClassBBoxHead(Shared2FCBBoxHead):
    """mmdet's box head, in testing with one class a box, and the probability of being a cell as its score.

    A cell whose class is in doubt would otherwise have several low scores, and be lost below a threshold, although that
    it is a cell is not in doubt. Training is mmdet's.
    """

    def _predict_by_feat_single(self, roi: Tensor, cls_score: Tensor, *args, **kwargs) -> InstanceData:
        return super()._predict_by_feat_single(roi, most_likely_class(cls_score), *args, **kwargs)
