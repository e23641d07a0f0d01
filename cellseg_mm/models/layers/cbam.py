"""CBAM: Convolutional Block Attention Module, Woo et al., ECCV 2018, https://arxiv.org/abs/1807.06521.

Follows the authors' code (https://github.com/Jongchan/attention-module) where the paper leaves details open: the
channel gate's MLP has biases; the spatial gate takes max before mean, and its BatchNorm has momentum 0.01.
"""

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn


class ChannelGate(nn.Module):
    """Weights each channel by ``sigmoid(mlp(mean) + mlp(max))``, mean and max taken over H and W.

    Args:
        channels (int): Channels of the input.
        reduction (int): The MLP's hidden layer has ``channels // reduction`` units, at least one.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        # amax, not AdaptiveMaxPool2d: the latter has no deterministic backward on CUDA
        logits = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return x * logits.sigmoid()[:, :, None, None]


class SpatialGate(nn.Module):
    """Weights each position by ``sigmoid(bn(conv([max, mean])))``, max and mean taken over the channels.

    Args:
        kernel_size (int): Odd size of the convolution's kernel.
    """

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        pooled = torch.stack([x.amax(1), x.mean(1)], dim=1)
        return x * self.bn(self.conv(pooled)).sigmoid()


@MODELS.register_module()
class CBAM(nn.Module):
    """Channel gate, then spatial gate.

    Args:
        channels (int): Channels of the input.
        reduction (int): Reduction of the channel gate's MLP.
        kernel_size (int): Kernel of the spatial gate.
        identity_init (bool): Start as the identity, which is not in the paper: the output is ``x + gamma * (y - x)``,
            where ``y`` is what the gates give and ``gamma`` a learned scalar that starts at 0. Without it both gates
            start near 0.5 and scale the features to about a quarter, which pretrained weights behind frozen BatchNorm
            do not expect.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7, identity_init: bool = False) -> None:
        super().__init__()
        self.channel_gate = ChannelGate(channels, reduction)
        self.spatial_gate = SpatialGate(kernel_size)
        self.gamma = nn.Parameter(torch.zeros(())) if identity_init else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        gated = self.spatial_gate(self.channel_gate(x))
        return gated if self.gamma is None else x + self.gamma * (gated - x)
