from .cbam import CBAM
from .sparse_nms import sparse_nms

__all__ = ['CBAM', 'sparse_nms']
