from .backbones import CBAMResNet
from .layers import CBAM
from .task_modules import SparseMaxIoUAssigner, best_anchor_iou

__all__ = ['CBAM', 'CBAMResNet', 'SparseMaxIoUAssigner', 'best_anchor_iou']
