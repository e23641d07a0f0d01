from .cbam import CBAM
from .sparse_roi_align import SparseRoIAlign

__all__ = ['CBAM', 'SparseRoIAlign']
