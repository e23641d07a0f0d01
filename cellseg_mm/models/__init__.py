from .backbones import AttentionResNet, AttentionResNeXt, EfficientNetLite
from .bbox_heads import OneClassBBoxHead, TaughtBBoxHead
from .dense_heads import RLERTMDetInsHead, RLERTMDetInsSepBNHead, RLESOLOV2Head
from .layers import CBAM, ECA, SE, SameConv2d
from .mask_heads import RLECoarseMaskHead, RLEDynamicMaskHead, RLEHTCMaskHead, RLEMaskHead, RLESCNetMaskHead
from .network_precision import bare_detector, network_precision
from .roi_heads import JointBatchRoIHead
from .seg_heads import RLEMask2FormerHead, RLEMaskFormerFusionHead
from .task_modules import SparseMaxIoUAssigner, best_anchor_iou
from .test_time_augs import CellTTAModel

__all__ = [
    'CBAM',
    'ECA',
    'SE',
    'AttentionResNeXt',
    'AttentionResNet',
    'CellTTAModel',
    'EfficientNetLite',
    'JointBatchRoIHead',
    'OneClassBBoxHead',
    'RLECoarseMaskHead',
    'RLEDynamicMaskHead',
    'RLEHTCMaskHead',
    'RLEMask2FormerHead',
    'RLEMaskFormerFusionHead',
    'RLEMaskHead',
    'RLERTMDetInsHead',
    'RLERTMDetInsSepBNHead',
    'RLESCNetMaskHead',
    'RLESOLOV2Head',
    'SameConv2d',
    'SparseMaxIoUAssigner',
    'TaughtBBoxHead',
    'bare_detector',
    'best_anchor_iou',
    'network_precision',
]
