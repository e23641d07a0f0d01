import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from .one_class_bbox_head import OneClassBBoxHead


def name_cells(detected: Tensor, named: Tensor) -> Tensor:
    """Logits whose probability of a cell is the detector's, and whose classes are those of another classifier.

    Args:
        detected (Tensor): (N, C + 1) logits of the detector, the background last.
        named (Tensor): (N, K) logits of the classes of a cell.

    Returns:
        Tensor: (N, K + 1) logits, the background last: P(class) = P(cell) P(class of a cell).

    Examples:
        >>> detected, named = torch.tensor([[0.3, 0.5, 0.2]]).log(), torch.tensor([[0.1, 0.9]]).log()
        >>> [round(value, 4) for value in name_cells(detected, named).softmax(dim=1)[0].tolist()]
        [0.08, 0.72, 0.2]
    """
    any_class = detected[:, :-1].logsumexp(dim=1, keepdim=True)
    return torch.cat([any_class + named.log_softmax(dim=1), detected[:, -1:]], dim=1)


def naming_features(embedded: Tensor, x: Tensor) -> Tensor:
    """What names a cell: the features of the box head, then the mean of the feature map over the box.

    The box head's features were trained to tell cells from background; in a detector of one class they hold little
    else. The map below them still shows what kind of cell it is (docs/results.md has the numbers).

    Args:
        embedded (Tensor): (N, D) from :meth:`OneClassBBoxHead.embed`.
        x (Tensor): (N, channels, 7, 7) RoI features.

    Returns:
        Tensor: (N, D + channels).
    """
    return torch.cat([embedded, x.mean(dim=(2, 3))], dim=1)


@MODELS.register_module()
class TaughtBBoxHead(OneClassBBoxHead):
    """A detector's :class:`OneClassBBoxHead` with a further layer that names the cells, fitted by tools/teach.py.

    Boxes and scores are the detector's own, because whether a box is a cell is still decided by ``fc_cls``.

    Args:
        *args: As for :class:`OneClassBBoxHead`.
        num_classes (int): K, the classes of ``fc_taught``.
        detector_classes (int): C, those of ``fc_cls``.
        **kwargs: As for :class:`OneClassBBoxHead`.
    """

    def __init__(self, *args, num_classes: int, detector_classes: int, **kwargs) -> None:
        super().__init__(*args, num_classes=detector_classes, **kwargs)
        self.num_classes = num_classes
        self.fc_taught = nn.Linear(self.cls_last_dim + self.in_channels, num_classes)

    def forward(self, x: Tensor) -> tuple:
        """(N, K + 1) logits and (N, 4) boxes as in mmdet, of (N, channels, 7, 7) RoI features."""
        features = self.embed(x)
        named = self.fc_taught(naming_features(features, x))
        return name_cells(self.fc_cls(features), named), self.fc_reg(features)
