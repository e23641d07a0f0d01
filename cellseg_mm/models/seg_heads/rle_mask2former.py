"""Mask2Former's instances with run-length codes as masks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from cellseg_mm.models.dense_heads import chunks, code_boxes, encode_maps, resize_maps


@MODELS.register_module()
class RLEMask2FormerHead(Mask2FormerHead):
    """The stock head; in prediction the masks of all queries stay at a quarter of the input's size.

    It belongs to :class:`RLEMaskFormerFusionHead`, which enlarges those that become instances.
    """

    def predict(self, x: tuple, batch_data_samples: Sequence) -> tuple:
        """Predict a batch.

        Args:
            x (tuple[Tensor]): Feature maps.
            batch_data_samples (Sequence[DetDataSample]): B samples.

        Returns:
            tuple[Tensor]: Class logits (B, Q, num_classes + 1), and mask logits (B, Q, h, w).
        """
        scores, masks = self(x, batch_data_samples)
        return scores[-1], masks[-1]


@MODELS.register_module()
class RLEMaskFormerFusionHead(MaskFormerFusionHead):
    """Makes instances from the queries of Mask2Former, with a COCO run-length code for each as mask.

    The codes equal the bitmaps of the stock heads, bit by bit. Queries are enlarged a few at a time. It makes no
    panoptic result, and asks ``test_cfg`` for two keys:

    - ``max_per_image``: the most instances; the number of queries times that of classes is enough.
    - ``score_thr``: the least score of an instance. Without it instances of any score are returned, as by the stock
      head.

    Args:
        **kwargs: As for :class:`mmdet.models.MaskFormerFusionHead`.

    Raises:
        ValueError: If ``test_cfg`` asks for a panoptic result.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        if self.test_cfg.get('panoptic_on', True):
            raise ValueError('RLEMaskFormerFusionHead makes instances alone: set test_cfg.panoptic_on=False')

    def predict(
        self, mask_cls_results: Tensor, mask_pred_results: Tensor, batch_data_samples: Sequence, rescale: bool = False
    ) -> list:
        """The instances of a batch.

        Args:
            mask_cls_results (Tensor): (B, Q, num_classes + 1) logits.
            mask_pred_results (Tensor): (B, Q, h, w) logits, of the padded input's size or smaller.
            batch_data_samples (Sequence[DetDataSample]): B samples.
            rescale (bool): Whether masks have the size of the original image, else that of the input.

        Returns:
            list[dict]: ``ins_results`` of each image: scores, labels, bboxes (N, 4), and masks, N codes.
        """
        each = zip(mask_cls_results, mask_pred_results, batch_data_samples, strict=True)
        return [dict(ins_results=self._instances(*image, rescale)) for image in each]

    def _instances(self, logits: Tensor, maps: Tensor, sample: DetDataSample, rescale: bool) -> InstanceData:
        probabilities = F.softmax(logits, dim=-1)[:, :-1].flatten()
        most = min(self.test_cfg.get('max_per_image', 100), len(probabilities))
        scores, chosen = probabilities.topk(most, sorted=False)
        labels, queries = chosen % self.num_classes, chosen // self.num_classes
        least = self.test_cfg.get('score_thr', -1.0)
        keep = (labels < self.num_things_classes) & (scores > least)
        scores, labels, queries = scores[keep], labels[keep], queries[keep]
        padded, (height, width) = sample.metainfo['batch_input_shape'], sample.metainfo['img_shape'][:2]
        out = sample.metainfo['ori_shape'][:2] if rescale else (height, width)
        confidence = [logits.new_zeros(0)]

        def make(part: slice) -> Tensor:
            enlarged = resize_maps(maps[queries[part]][None], padded)[:, :, :height, :width]
            enlarged = resize_maps(enlarged, out)[0]
            masks = enlarged > 0
            inside = masks.float()
            total = (enlarged.sigmoid() * inside).flatten(1).sum(1)
            confidence.append(total / (inside.flatten(1).sum(1) + 1e-6))  # the mean probability inside the mask
            return masks

        codes = encode_maps(make, chunks(len(queries), padded, out))
        scores = scores * torch.cat(confidence)
        boxes = code_boxes(codes).to(scores)
        return InstanceData(bboxes=boxes, labels=labels, scores=scores, masks=codes)[scores > least]
