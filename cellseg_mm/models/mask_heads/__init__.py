from .rle_mask_head import (
    RLECoarseMaskHead,
    RLEDynamicMaskHead,
    RLEHTCMaskHead,
    RLEMaskHead,
    RLEMasks,
    RLESCNetMaskHead,
)

__all__ = [
    'RLECoarseMaskHead',
    'RLEDynamicMaskHead',
    'RLEHTCMaskHead',
    'RLEMaskHead',
    'RLEMasks',
    'RLESCNetMaskHead',
]
