from .build_attention import build_attention
from .cbam import CBAM
from .eca import ECA
from .offer_to_mmcv import offer_to_mmcv
from .same_conv import SameConv2d
from .se import SE
from .sparse_nms import sparse_nms
from .sparse_roi_align import SparseRoIAlign

__all__ = ['CBAM', 'ECA', 'SE', 'SameConv2d', 'SparseRoIAlign', 'build_attention', 'offer_to_mmcv', 'sparse_nms']
