from .backbones import AttentionResNet, EfficientNetLite
from .bbox_heads import OneClassBBoxHead, TaughtBBoxHead
from .layers import CBAM, SameConv2d
from .mask_heads import RLEMaskHead
from .network_precision import bare_detector, network_precision
from .roi_heads import JointBatchRoIHead
from .task_modules import SparseMaxIoUAssigner, best_anchor_iou
from .test_time_augs import CellTTAModel

__all__ = [
    'CBAM',
    'AttentionResNet',
    'CellTTAModel',
    'EfficientNetLite',
    'JointBatchRoIHead',
    'OneClassBBoxHead',
    'RLEMaskHead',
    'SameConv2d',
    'SparseMaxIoUAssigner',
    'TaughtBBoxHead',
    'bare_detector',
    'best_anchor_iou',
    'network_precision',
]
