from .cbam import CBAM
from .offer_to_mmcv import offer_to_mmcv
from .same_conv import SameConv2d
from .sparse_nms import sparse_nms
from .sparse_roi_align import SparseRoIAlign

__all__ = ['CBAM', 'SameConv2d', 'SparseRoIAlign', 'offer_to_mmcv', 'sparse_nms']
