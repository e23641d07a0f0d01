"""SE: Squeeze-and-Excitation Networks, Hu et al., CVPR 2018, https://arxiv.org/abs/1709.01507."""

from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class SE(nn.Module):
    """Weights each channel by ``sigmoid(expand(relu(reduce(mean))))``, the mean taken over H and W.

    ``reduce`` and ``expand`` are linear layers with biases, to ``channels // reduction`` units and back.

    Args:
        channels (int): Channels of the input.
        reduction (int): The hidden layer has ``channels // reduction`` units, at least one.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        return x * self.mlp(x.mean((2, 3)))[:, :, None, None]
