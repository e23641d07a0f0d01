import numpy as np
from mmdet.models.roi_heads.mask_heads import (
    CoarseMaskHead,
    DynamicMaskHead,
    FCNMaskHead,
    HTCMaskHead,
    SCNetMaskHead,
)
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from torch import Tensor

from cellseg_mm.structures import encode_runs

from .paste import paste_runs


class RLEMasks:
    """Mixin for mmdet's mask heads of RoIs: a COCO run-length code for each instance, not a bitmap of the image's size.

    The codes equal the stock head's bitmaps on the same device, bit by bit (see :func:`paste_runs` for boxes without an
    area). ``pred_instances.masks`` is then a list of ``{'size': [H, W], 'counts': str}``, which indexing, scoring,
    dumping and drawing take as it is.
    """

    def _predict_by_feat_single(
        self,
        mask_preds: Tensor,
        bboxes: Tensor,
        labels: Tensor,
        img_meta: dict,
        rcnn_test_cfg: ConfigDict,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> list:
        """The codes of one image's N instances.

        Args:
            mask_preds (Tensor): (N, C or 1, h, w) logits; probabilities with ``activate_map``.
            bboxes (Tensor): (N, 4) [x1, y1, x2, y2) in px of the input. With ``rescale`` they are changed in place to
                px of the original image, as in the stock head.
            labels (Tensor): (N,) class indices.
            img_meta (dict): With ori_shape, (H, W), and scale_factor, (x, y).
            rcnn_test_cfg (ConfigDict): With ``mask_thr_binary``, above 0: the least probability inside a mask.
            rescale (bool): Whether the codes have the size of the original image, else that of the input.
            activate_map (bool): Whether ``mask_preds`` are probabilities.

        Returns:
            list[dict]: N codes.
        """
        if not activate_map:
            mask_preds = mask_preds.sigmoid()
        scale_factor = bboxes.new_tensor(img_meta['scale_factor']).repeat((1, 2))
        height, width = img_meta['ori_shape'][:2]
        if rescale:
            bboxes /= scale_factor
        else:
            height, width = (
                int(np.round(side * scale_factor[0, axis].item())) for axis, side in ((1, height), (0, width))
            )
        chosen = mask_preds[:, 0] if self.class_agnostic else mask_preds[range(len(labels)), labels]
        runs = paste_runs(chosen, bboxes, height, width, rcnn_test_cfg.mask_thr_binary)
        return encode_runs(runs, len(labels), height, width)

    def predict_by_feat(self, *args, **kwargs) -> list:
        """As the stock head, with an empty list of masks for an image without instances."""
        results_list = super().predict_by_feat(*args, **kwargs)
        for results in results_list:
            if not len(results):
                results.masks = []
        return results_list


@MODELS.register_module()
class RLEMaskHead(RLEMasks, FCNMaskHead):
    """The head of Mask R-CNN, Cascade Mask R-CNN and Mask Scoring R-CNN with codes, see :class:`RLEMasks`."""


@MODELS.register_module()
class RLECoarseMaskHead(RLEMasks, CoarseMaskHead):
    """The head of PointRend with codes, see :class:`RLEMasks`."""


@MODELS.register_module()
class RLEDynamicMaskHead(RLEMasks, DynamicMaskHead):
    """The head of QueryInst with codes, see :class:`RLEMasks`."""


@MODELS.register_module()
class RLEHTCMaskHead(RLEMasks, HTCMaskHead):
    """The head of Hybrid Task Cascade with codes, see :class:`RLEMasks`."""


@MODELS.register_module()
class RLESCNetMaskHead(RLEMasks, SCNetMaskHead):
    """The head of SCNet with codes, see :class:`RLEMasks`."""
