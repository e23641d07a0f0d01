import math

import torch.nn.functional as F
from mmdet.models.dense_heads import RTMDetInsHead, RTMDetInsSepBNHead
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from .map_codes import chunks, encode_maps, resize_maps


class _RLEMasks:
    """Mixin for RTMDet-Ins: a COCO run-length code for each instance, not a bitmap of the image's size.

    The codes equal the stock head's bitmaps, bit by bit. Stock makes the logits of all instances at the image's size
    before it compares them; here a few instances are made, compared and encoded at a time.
    """

    def _bbox_mask_post_process(
        self,
        results: InstanceData,
        mask_feat: Tensor,
        cfg: ConfigDict,
        rescale: bool = False,
        with_nms: bool = True,
        img_meta: dict | None = None,
    ) -> InstanceData:
        """As the stock head; ``masks`` is a list of N codes.

        Args:
            results (InstanceData): Candidates of an image.
            mask_feat (Tensor): (C, h, w) prototypes.
            cfg (ConfigDict): ``test_cfg``.
            rescale (bool): Whether boxes and codes are in px of the original image, else of the input.
            with_nms (bool): Must be True.
            img_meta (dict): With ori_shape, (H, W), and scale_factor, (x, y).
        """
        # stock's boxes, scores and NMS; its masks, here of one px of the prototypes, are replaced
        results = super()._bbox_mask_post_process(results, mask_feat[:, :1, :1], cfg, rescale, with_nms, img_meta)
        height, width = mask_feat.shape[1:]
        stride = self.prior_generator.strides[0][0]
        size, out = (height * stride, width * stride), (None, None)
        if rescale:
            # written as in the stock head: the same rounding
            scale_x, scale_y = (1 / factor for factor in img_meta['scale_factor'])
            size, out = (math.ceil(size[0] * scale_y), math.ceil(size[1] * scale_x)), img_meta['ori_shape'][:2]

        def make(part: slice) -> Tensor:
            logits = self._mask_predict_by_feat_single(mask_feat, results.kernels[part], results.priors[part])
            logits = F.interpolate(logits[None], scale_factor=stride, mode='bilinear')
            if rescale:
                logits = resize_maps(logits, size)
            return logits[0, :, : out[0], : out[1]].sigmoid() > cfg.mask_thr_binary

        results.masks = encode_maps(make, chunks(len(results), size, (height * stride, width * stride)))
        return results


@MODELS.register_module()
class RLERTMDetInsHead(_RLEMasks, RTMDetInsHead):
    """The head of RTMDet-Ins with run-length codes as masks."""


@MODELS.register_module()
class RLERTMDetInsSepBNHead(_RLEMasks, RTMDetInsSepBNHead):
    """The head of RTMDet-Ins with a BatchNorm for each level, as in its published models, and codes as masks."""
