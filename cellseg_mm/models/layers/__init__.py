from .cbam import CBAM
from .same_conv import SameConv2d

__all__ = ['CBAM', 'SameConv2d']
