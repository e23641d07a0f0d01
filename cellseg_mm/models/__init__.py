from .backbones import CBAMResNet
from .layers import CBAM
from .mask_heads import RLEMaskHead
from .task_modules import best_anchor_iou

__all__ = ['CBAM', 'CBAMResNet', 'RLEMaskHead', 'best_anchor_iou']
