from .cells import Cells
from .instance_map import (
    encode_instances,
    find_runs,
    instance_extents,
    lay_runs,
    read_layers,
    relabel,
    stack_layers,
    write_layers,
)
from .instance_map_masks import InstanceMapMasks
from .mask_codes import mask_codes
from .run_length import (
    Runs,
    decode_runs,
    decode_window,
    encode_runs,
    paint_instances,
    paint_pixels,
    pixels_before,
    to_code,
)

__all__ = [
    'Cells',
    'InstanceMapMasks',
    'Runs',
    'decode_runs',
    'decode_window',
    'encode_instances',
    'encode_runs',
    'find_runs',
    'instance_extents',
    'lay_runs',
    'mask_codes',
    'paint_instances',
    'paint_pixels',
    'pixels_before',
    'read_layers',
    'relabel',
    'stack_layers',
    'to_code',
    'write_layers',
]
