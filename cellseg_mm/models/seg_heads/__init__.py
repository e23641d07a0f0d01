from .rle_mask2former import RLEMask2FormerHead, RLEMaskFormerFusionHead

__all__ = ['RLEMask2FormerHead', 'RLEMaskFormerFusionHead']
