import torch
from mmdet.structures.mask import encode_mask_results


def mask_codes(masks: torch.Tensor | list) -> list:
    """A detector's masks as COCO run-length codes.

    Args:
        masks (Tensor | list[dict]): (N, H, W) bool, as stock heads predict them, or N codes.

    Returns:
        list[dict]: N times ``{'size': [H, W], 'counts': str | bytes}``.
    """
    return encode_mask_results(masks.cpu().numpy()) if isinstance(masks, torch.Tensor) else masks
