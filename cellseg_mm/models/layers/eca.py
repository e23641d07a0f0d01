"""ECA: Efficient Channel Attention, Wang et al., CVPR 2020, https://arxiv.org/abs/1910.03151."""

import math

from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class ECA(nn.Module):
    """Weights each channel by the sigmoid of a convolution over the means of its neighbours among the channels.

    The means are taken over H and W. The convolution has one kernel for all channels and no bias.

    Args:
        channels (int): Channels of the input.
        kernel_size (int | None): Odd number of channels that the kernel spans; by default
            ``(log2(channels) + 1) / 2``, equation 12 of the paper, cut to a whole number and made odd by adding one,
            as in its code (https://github.com/BangguWu/ECANet).

    Raises:
        ValueError: For an even kernel size.

    Examples:
        >>> [ECA(channels).conv.kernel_size for channels in (64, 256, 2048)]
        [(3,), (5,), (7,)]
    """

    def __init__(self, channels: int, kernel_size: int | None = None) -> None:
        super().__init__()
        if kernel_size is None:
            kernel_size = int((math.log2(channels) + 1) / 2) | 1
        if kernel_size % 2 == 0:
            raise ValueError(f'kernel_size={kernel_size}: must be odd')
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        logits = self.conv(x.mean((2, 3))[:, None])[:, 0]
        return x * logits.sigmoid()[:, :, None, None]
