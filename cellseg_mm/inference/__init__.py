from cellseg_mm.images import ArraySource, open_image, read_overview

from .inferencer import CellInferencer, find_channel_order
from .merge import merge_tiles
from .tile_grid import TileGrid, is_blank
from .tiled_inference import predict_tiled

__all__ = [
    'ArraySource',
    'CellInferencer',
    'TileGrid',
    'find_channel_order',
    'is_blank',
    'merge_tiles',
    'open_image',
    'predict_tiled',
    'read_overview',
]
