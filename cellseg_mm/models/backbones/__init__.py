from .cbam_resnet import CBAMResNet
from .efficientnet_lite import EfficientNetLite

__all__ = ['CBAMResNet', 'EfficientNetLite']
