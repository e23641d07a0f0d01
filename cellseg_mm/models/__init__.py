from .backbones import CBAMResNet
from .layers import CBAM
from .mask_heads import RLEMaskHead
from .roi_heads import JointBatchRoIHead
from .task_modules import SparseMaxIoUAssigner, best_anchor_iou
from .test_time_augs import CellTTAModel

__all__ = [
    'CBAM',
    'CBAMResNet',
    'CellTTAModel',
    'JointBatchRoIHead',
    'RLEMaskHead',
    'SparseMaxIoUAssigner',
    'best_anchor_iou',
]
