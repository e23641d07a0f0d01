from .anchor_fit import best_anchor_iou
from .sparse_max_iou_assigner import SparseMaxIoUAssigner

__all__ = ['SparseMaxIoUAssigner', 'best_anchor_iou']
