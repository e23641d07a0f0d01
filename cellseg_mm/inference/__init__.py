from .merge import merge_tiles
from .tiled import predict_tiled
from .tiles import TileGrid, is_blank

__all__ = ['TileGrid', 'is_blank', 'merge_tiles', 'predict_tiled']
