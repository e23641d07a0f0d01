from .backbones import CBAMResNet
from .layers import CBAM
from .mask_heads import RLEMaskHead
from .task_modules import SparseMaxIoUAssigner, best_anchor_iou

__all__ = ['CBAM', 'CBAMResNet', 'RLEMaskHead', 'SparseMaxIoUAssigner', 'best_anchor_iou']
