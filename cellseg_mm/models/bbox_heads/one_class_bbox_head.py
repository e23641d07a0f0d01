import torch
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor


def most_likely_class(logits: Tensor) -> Tensor:
    """Give each box's most likely class the probability that the box is a cell of any class.

    Args:
        logits (Tensor): (N, C + 1), the background last.

    Returns:
        Tensor: (N, C + 1) logits.

    Examples:
        >>> logits = torch.tensor([[0.4, 0.3, 0.1, 0.2]]).log()
        >>> [round(value, 4) for value in most_likely_class(logits).softmax(dim=1)[0].tolist()]
        [0.8, 0.0, 0.0, 0.2]
    """
    probabilities = logits.softmax(dim=1)
    cells, background = probabilities[:, :-1], probabilities[:, -1:]
    cells = torch.zeros_like(cells).scatter(1, cells.argmax(dim=1, keepdim=True), 1 - background)
    return torch.cat([cells, background], dim=1).log()


@MODELS.register_module()
class OneClassBBoxHead(Shared2FCBBoxHead):
    """mmdet's box head. In testing each box has one class, and its score is the probability of being a cell.

    Otherwise a cell of uncertain class would have several low scores and be lost below a threshold, even if it is
    clearly a cell. Training is mmdet's.
    """

    def _predict_by_feat_single(self, roi: Tensor, cls_score: Tensor, *args, **kwargs) -> InstanceData:
        return super()._predict_by_feat_single(roi, most_likely_class(cls_score), *args, **kwargs)
