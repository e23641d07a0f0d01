from .rle_mask_head import RLEMaskHead

__all__ = ['RLEMaskHead']
