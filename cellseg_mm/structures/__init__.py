from .instance_map import (
    encode_instances,
    instance_extents,
    read_layers,
    relabel,
    stack_layers,
    write_layers,
)
from .instance_map_masks import InstanceMapMasks

__all__ = [
    'InstanceMapMasks',
    'encode_instances',
    'instance_extents',
    'read_layers',
    'relabel',
    'stack_layers',
    'write_layers',
]
