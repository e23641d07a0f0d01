from .backbones import CBAMResNet
from .layers import CBAM
from .task_modules import best_anchor_iou

__all__ = ['CBAM', 'CBAMResNet', 'best_anchor_iou']
