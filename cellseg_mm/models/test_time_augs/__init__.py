from .cell_tta_model import CellTTAModel
from .mask_votes import MaskVotes
from .views import View

__all__ = ['CellTTAModel', 'MaskVotes', 'View']
