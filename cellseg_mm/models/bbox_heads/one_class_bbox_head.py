import torch
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from cellseg_mm.datasets.cell_dataset import UNKNOWN_CLASS


def most_likely_class(logits: Tensor) -> Tensor:
    """Give each box's most likely class the probability that the box is a cell of any class.

    Args:
        logits (Tensor): (N, C + 1), the background last.

    Returns:
        Tensor: (N, C + 1) logits. Those of the other classes are minus infinity.

    Examples:
        >>> logits = torch.tensor([[0.4, 0.3, 0.1, 0.2]]).log()
        >>> [round(value, 4) for value in most_likely_class(logits).softmax(dim=1)[0].tolist()]
        [0.8, 0.0, 0.0, 0.2]
    """
    cells, background = logits[:, :-1], logits[:, -1:]
    any_class = cells.logsumexp(dim=1, keepdim=True)  # the sum of the probabilities, as a logit
    nowhere = torch.full_like(cells, -torch.inf)
    return torch.cat([nowhere.scatter(1, cells.argmax(dim=1, keepdim=True), any_class), background], dim=1)


@MODELS.register_module()
class OneClassBBoxHead(Shared2FCBBoxHead):
    """mmdet's box head. In testing each box has one class, and its score is the probability of being a cell.

    Otherwise a cell of uncertain class would have several low scores and be lost below a threshold, even if it is
    clearly a cell. Training is mmdet's, but a cell of unknown class (:data:`UNKNOWN_CLASS`) is only taught to be a
    cell: its loss is the negative logarithm of the sum of the classes' probabilities.
    """

    def loss(self, cls_score: Tensor, bbox_pred: Tensor, rois: Tensor, labels: Tensor, *args, **kwargs) -> dict:
        """mmdet's losses of sampled boxes.

        Args:
            cls_score (Tensor): (N, C + 1) logits.
            bbox_pred (Tensor): (N, 4) or (N, 4 C).
            rois (Tensor): (N, 5).
            labels (Tensor): (N,) int64, C for the background, :data:`UNKNOWN_CLASS` for a cell of unknown class.
            *args: As in mmdet.
            **kwargs: As in mmdet.
        """
        unknown = labels == UNKNOWN_CLASS
        labels = torch.where(unknown, cls_score[:, :-1].argmax(dim=1), labels)
        cls_score = torch.where(unknown[:, None], most_likely_class(cls_score), cls_score)
        return super().loss(cls_score, bbox_pred, rois, labels, *args, **kwargs)

    def embed(self, x: Tensor) -> Tensor:
        """The (N, D) features that both branches see, of (N, channels, 7, 7) RoI features."""
        x = x.flatten(1)
        for layer in self.shared_fcs:
            x = self.relu(layer(x))
        return x

    def _predict_by_feat_single(self, roi: Tensor, cls_score: Tensor, *args, **kwargs) -> InstanceData:
        return super()._predict_by_feat_single(roi, most_likely_class(cls_score), *args, **kwargs)
