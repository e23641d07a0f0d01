from .attention_resnet import AttentionResNet, AttentionResNeXt
from .efficientnet_lite import EfficientNetLite

__all__ = ['AttentionResNeXt', 'AttentionResNet', 'EfficientNetLite']
