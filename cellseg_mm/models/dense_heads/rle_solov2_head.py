import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import SOLOV2Head
from mmdet.models.layers import mask_matrix_nms
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from .map_codes import chunks, code_boxes, encode_maps, resize_maps


@MODELS.register_module()
class RLESOLOV2Head(SOLOV2Head):
    """The head of SOLOv2 that predicts a COCO run-length code for each instance, not a bitmap of the image's size.

    The codes equal the stock head's bitmaps, bit by bit. Boxes are the tight boxes of the masks; the stock head leaves
    zeros. Matrix NMS compares all candidates on the map of mask features, at a quarter of the input's size, and its
    memory stays: about 13 bytes a px of the map and candidate.

    The steps are those of Wang et al., SOLOv2, NeurIPS 2020, https://arxiv.org/abs/2003.10152, as in the stock head.
    """

    def _predict_by_feat_single(
        self,
        kernel_preds: Tensor,
        cls_scores: Tensor,
        mask_feats: Tensor,
        img_meta: dict,
        cfg: ConfigDict | None = None,
    ) -> InstanceData:
        """The instances of one image.

        Args:
            kernel_preds (Tensor): (P, C) kernels of all grid points.
            cls_scores (Tensor): (P, num_classes) scores.
            mask_feats (Tensor): (1, C, h, w) mask features.
            img_meta (dict): With img_shape and ori_shape, (H, W).
            cfg (ConfigDict | None): ``test_cfg``.

        Returns:
            InstanceData: scores (N,), labels (N,), bboxes (N, 4) and masks, N codes of the original image's size.
        """
        cfg = cfg or self.test_cfg
        points, labels = (cls_scores > cfg.score_thr).nonzero(as_tuple=True)
        scores, size = cls_scores[points, labels], self.dynamic_conv_size
        if not len(points):
            return _as_instances(scores, labels, [])
        # a mask must have more px on the map than the stride of its grid
        strides = torch.cat(
            [scores.new_full((grid**2,), stride) for grid, stride in zip(self.num_grids, self.strides, strict=True)]
        )
        kernels = kernel_preds[points].view(len(points), -1, size, size)
        probabilities = F.conv2d(mask_feats, kernels, stride=1)[0].sigmoid()
        masks = probabilities > cfg.mask_thr
        areas = masks.sum((1, 2)).float()
        keep = areas > strides[points]
        probabilities, masks, areas, scores, labels = (
            value[keep] for value in (probabilities, masks, areas, scores, labels)
        )
        if not len(scores):
            return _as_instances(scores, labels, [])
        # the mean probability inside the mask
        scores = scores * ((probabilities * masks).sum((1, 2)) / areas)
        scores, labels, _, kept = mask_matrix_nms(
            masks,
            labels,
            scores,
            mask_area=areas,
            nms_pre=cfg.nms_pre,
            max_num=cfg.max_per_img,
            kernel=cfg.kernel,
            sigma=cfg.sigma,
            filter_thr=cfg.filter_thr,
        )
        del masks
        (height, width), map_shape, stride = img_meta['img_shape'][:2], mask_feats.shape[-2:], self.mask_stride
        full, out = (map_shape[0] * stride, map_shape[1] * stride), img_meta['ori_shape'][:2]

        def make(part: slice) -> Tensor:
            maps = resize_maps(probabilities[kept[part]][None], full)[:, :, :height, :width]
            return resize_maps(maps, out)[0] > cfg.mask_thr

        return _as_instances(scores, labels, encode_maps(make, chunks(len(kept), full, out)))


def _as_instances(scores: Tensor, labels: Tensor, codes: list) -> InstanceData:
    return InstanceData(scores=scores, labels=labels, bboxes=code_boxes(codes).to(scores), masks=codes)
