from .cbam import CBAM
from .same_conv import SameConv2d
from .sparse_nms import sparse_nms
from .sparse_roi_align import SparseRoIAlign

__all__ = ['CBAM', 'SameConv2d', 'SparseRoIAlign', 'sparse_nms']
