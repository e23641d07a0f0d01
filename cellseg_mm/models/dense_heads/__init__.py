from .map_codes import chunks, code_boxes, encode_maps, resize_maps
from .rle_rtmdet_ins_head import RLERTMDetInsHead, RLERTMDetInsSepBNHead
from .rle_solov2_head import RLESOLOV2Head

__all__ = [
    'RLERTMDetInsHead',
    'RLERTMDetInsSepBNHead',
    'RLESOLOV2Head',
    'chunks',
    'code_boxes',
    'encode_maps',
    'resize_maps',
]
