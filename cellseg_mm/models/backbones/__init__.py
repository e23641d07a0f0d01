from .attention_resnet import AttentionResNet
from .efficientnet_lite import EfficientNetLite

__all__ = ['AttentionResNet', 'EfficientNetLite']
