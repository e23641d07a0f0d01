from .cbam import CBAM
from .same_conv import SameConv2d
from .sparse_nms import sparse_nms

__all__ = ['CBAM', 'SameConv2d', 'sparse_nms']
