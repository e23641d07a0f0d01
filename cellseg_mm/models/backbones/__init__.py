from .cbam_resnet import CBAMResNet

__all__ = ['CBAMResNet']
