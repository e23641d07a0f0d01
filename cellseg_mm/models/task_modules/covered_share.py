import torch
from torch import Tensor


def covered_share(region: Tensor, boxes: Tensor) -> Tensor:
    """The share of each box that a region covers, by an integral image: the time does not depend on the boxes' sizes.

    Args:
        region (Tensor): (H, W) bool.
        boxes (Tensor): (N, 4) float [x1, y1, x2, y2] in px from the image's corner. A box holds all pixels of the image
            that it touches.

    Returns:
        Tensor: (N,) float32, 0 to 1; 0 for a box without a pixel.

    Examples:
        The left half of an image of 2x4 px; a box in it, one across its border, one that reaches out of the image:

        >>> region = torch.tensor([[True, True, False, False]] * 2)
        >>> covered_share(region, torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 1], [1, 0, 9, 9]])).tolist()
        [1.0, 0.5, 0.3333333432674408]
    """
    height, width = region.shape
    sums = region.new_zeros((height + 1, width + 1), dtype=torch.int64)
    sums[1:, 1:] = region.long().cumsum(dim=0).cumsum(dim=1)
    x1, y1 = boxes[:, :2].float().floor().long().unbind(dim=1)
    x2, y2 = boxes[:, 2:].float().ceil().long().unbind(dim=1)
    x1, x2, y1, y2 = x1.clamp(0, width), x2.clamp(0, width), y1.clamp(0, height), y2.clamp(0, height)
    x2, y2 = torch.maximum(x1, x2), torch.maximum(y1, y2)
    covered = sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1]
    return covered / ((x2 - x1) * (y2 - y1)).clamp(min=1)
