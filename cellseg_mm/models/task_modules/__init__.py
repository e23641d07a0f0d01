from .anchor_fit import best_anchor_iou

__all__ = ['best_anchor_iou']
