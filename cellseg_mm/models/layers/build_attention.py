from mmdet.registry import MODELS
from torch import nn


def build_attention(attention: str | dict, channels: int) -> nn.Module:
    """An attention module from the ``attention`` of a backbone's config.

    Args:
        attention (str | dict): Name or config of a registered module that takes ``channels`` and keeps the shape
            (N, C, H, W). In a child config a name replaces all that the parent says, a dict is merged with it.
        channels (int): Channels of the input.

    Examples:
        >>> build_attention('ECA', 64).conv.kernel_size, build_attention(dict(type='SE', reduction=8), 64).mlp[0]
        ((3,), Linear(in_features=64, out_features=8, bias=True))
    """
    return MODELS.build(dict(dict(type=attention) if isinstance(attention, str) else attention, channels=channels))
