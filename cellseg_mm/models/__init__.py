from .backbones import CBAMResNet, EfficientNetLite
from .layers import CBAM, SameConv2d
from .mask_heads import RLEMaskHead
from .network_precision import network_precision
from .roi_heads import JointBatchRoIHead
from .task_modules import SparseMaxIoUAssigner, best_anchor_iou
from .test_time_augs import CellTTAModel

__all__ = [
    'CBAM',
    'CBAMResNet',
    'CellTTAModel',
    'EfficientNetLite',
    'JointBatchRoIHead',
    'RLEMaskHead',
    'SameConv2d',
    'SparseMaxIoUAssigner',
    'best_anchor_iou',
    'network_precision',
]
