"""Mask R-CNN as one graph of plain tensor operations, from pixels to 28x28 masks, which ONNX can hold.

MMDetection's own test path branches in Python on its results and calls compiled operators. Here the same submodules run
with the same numbers, and the code between them is written so that a trace of one image holds for all.
"""

import math

import torch
import torch.nn.functional as F
from mmcv.ops import RoIAlign, nms, roi_align
from mmdet.models.detectors import MaskRCNN
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from torch import Tensor, nn

from cellseg_mm.models.bbox_heads import OneClassBBoxHead, most_likely_class


class _NonMaxSuppression(torch.autograd.Function):
    """ONNX's operator of that name, https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html, for one class."""

    @staticmethod
    def forward(ctx: object, boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
        """(1, N, 4) and (1, 1, N) to (K, 3) int64: 0, 0, index of a box that is kept."""
        kept = nms(boxes[0], scores[0, 0], iou_threshold)[1]
        return F.pad(kept[:, None], (2, 0))

    @staticmethod
    def symbolic(g: object, boxes: object, scores: object, iou_threshold: float) -> object:
        most = g.op('Constant', value_t=torch.tensor([torch.iinfo(torch.int64).max]))
        return g.op('NonMaxSuppression', boxes, scores, most, g.op('Constant', value_t=torch.tensor([iou_threshold])))


class _RoiAlign(torch.autograd.Function):
    """ONNX's operator of that name, https://onnx.ai/onnx/operators/onnx__RoiAlign.html, since opset 16."""

    @staticmethod
    def forward(ctx: object, features: Tensor, boxes: Tensor, image: Tensor, layer: RoIAlign) -> Tensor:
        """(1, C, H, W), (N, 4) and (N,) int64 zeros to (N, C, h, w)."""
        rois = torch.cat([image[:, None].to(boxes), boxes], dim=1)
        # not layer(...): torch's exporter fails at a module that is called here
        options = layer.output_size, layer.spatial_scale, layer.sampling_ratio, 'avg', layer.aligned
        return roi_align(features, rois, *options)

    @staticmethod
    def symbolic(g: object, features: object, boxes: object, image: object, layer: RoIAlign) -> object:
        return g.op(
            'RoiAlign',
            features,
            boxes,
            image,
            coordinate_transformation_mode_s='half_pixel' if layer.aligned else 'output_half_pixel',
            mode_s='avg',
            output_height_i=layer.output_size[0],
            output_width_i=layer.output_size[1],
            sampling_ratio_i=layer.sampling_ratio,
            spatial_scale_f=layer.spatial_scale,
        )


class TraceableMaskRCNN(nn.Module):
    """A detector's test path for one image.

    Args:
        detector (MaskRCNN): In eval mode, with RPNHead, StandardRoIHead and test settings of plain NMS.
    """

    def __init__(self, detector: MaskRCNN) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple:
        """Cells of an image.

        Args:
            image (Tensor): (H, W, 3) uint8 RGB, at the size of the model's input.

        Returns:
            tuple: boxes (N, 4) float32, [x1, y1, x2, y2) in px of the image; scores (N,) float32, descending; labels
            (N,) int64; masks (N, h, w) float32, probabilities over the box.
        """
        detector, preprocessor = self.detector, self.detector.data_preprocessor
        # a value of the graph, not a number of the traced image
        size = torch.stack([torch.scalar_tensor(side) for side in (image.shape[1], image.shape[0])]).to(torch.float32)
        pixels = (image.permute(2, 0, 1).to(torch.float32) - preprocessor.mean) / preprocessor.std
        divisor = preprocessor.pad_size_divisor
        pad_bottom, pad_right = (-image.shape[0]) % divisor, (-image.shape[1]) % divisor
        features = detector.extract_feat(F.pad(pixels[None], (0, pad_right, 0, pad_bottom)))
        proposals = self.propose(features, size)
        boxes, scores, labels = self.classify(features, proposals, size)
        return boxes, scores, labels, self.segment(features, boxes, labels)

    def propose(self, features: tuple, size: Tensor) -> Tensor:
        """(R, 4) boxes of the RPN, the highest score first."""
        head, cfg = self.detector.rpn_head, self.detector.test_cfg.rpn
        boxes, scores, levels = [], [], []
        for level, (logits, deltas) in enumerate(zip(*head(features), strict=True)):
            anchors = head.prior_generator.single_level_grid_priors(logits.shape[-2:], level, device=logits.device)
            ranked, order = logits[0].permute(1, 2, 0).reshape(-1).sigmoid().sort(descending=True)
            order = order[: cfg.nms_pre]
            deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)[order]
            boxes.append(decode(head.bbox_coder, anchors[order], deltas)[:, 0])
            scores.append(ranked[: cfg.nms_pre])
            levels.append(torch.full_like(order, level))
        boxes, scores, levels = clip(torch.cat(boxes), size), torch.cat(scores), torch.cat(levels)
        wide = ((boxes[:, 2:] - boxes[:, :2]) > cfg.get('min_bbox_size', -1)).all(dim=1).nonzero()[:, 0]
        boxes, scores, levels = boxes[wide], scores[wide], levels[wide]
        return boxes[suppress(boxes, scores, levels, size, cfg.nms.iou_threshold)[: cfg.max_per_img]]

    def classify(self, features: tuple, proposals: Tensor, size: Tensor) -> tuple:
        """Boxes (N, 4), scores (N,) and labels (N,) that the box head finds in (R, 4) proposals."""
        roi_head, cfg = self.detector.roi_head, self.detector.test_cfg.rcnn
        head = roi_head.bbox_head
        logits, deltas = head(extract(roi_head.bbox_roi_extractor, features, proposals))
        if isinstance(head, OneClassBBoxHead):
            logits = most_likely_class(logits)
        scores = logits.softmax(dim=1)[:, :-1]
        boxes = clip(decode(head.bbox_coder, proposals, deltas), size).expand(-1, head.num_classes, 4)
        proposal, labels = (scores > cfg.score_thr).nonzero(as_tuple=True)
        boxes, scores = boxes[proposal, labels], scores[proposal, labels]
        groups = torch.zeros_like(labels) if cfg.nms.get('class_agnostic') else labels
        kept = suppress(boxes, scores, groups, size, cfg.nms.iou_threshold)[: cfg.max_per_img]
        return boxes[kept], scores[kept], labels[kept]

    def segment(self, features: tuple, boxes: Tensor, labels: Tensor) -> Tensor:
        """(N, h, w) mask probabilities of the boxes' own classes."""
        roi_head = self.detector.roi_head
        logits = roi_head.mask_head(extract(roi_head.mask_roi_extractor, features, boxes))
        if roi_head.mask_head.class_agnostic:
            return logits[:, 0].sigmoid()
        return logits[torch.arange(labels.shape[0]), labels].sigmoid()


def decode(coder: DeltaXYWHBBoxCoder, boxes: Tensor, deltas: Tensor) -> Tensor:
    """(N, K, 4) boxes from (N, 4) boxes and (N, 4 K) deltas: Girshick et al., CVPR 2014, appendix C."""
    deltas = deltas.reshape(boxes.shape[0], deltas.shape[1] // 4, 4)
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    limit = -math.log(16 / 1000)  # as in mmdet's delta2bbox
    extents = (boxes[:, 2:] - boxes[:, :2])[:, None]
    centers = (boxes[:, :2] + boxes[:, 2:])[:, None] / 2 + extents * deltas[..., :2]
    halves = extents * deltas[..., 2:].clamp(-limit, limit).exp() / 2
    return torch.cat([centers - halves, centers + halves], dim=2)


def clip(boxes: Tensor, size: Tensor) -> Tensor:
    """(..., 4) boxes clipped to an image of size (2,) [width, height]."""
    return torch.minimum(boxes.clamp(min=0), size.repeat(2))


def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, size: Tensor, iou_threshold: float) -> Tensor:
    """(K,) indices of the boxes that NMS within each group keeps, the highest score first.

    Groups are moved apart, as in mmcv's ``batched_nms``.
    """
    apart = boxes + (groups * (size.max() + 1))[:, None]
    kept = _NonMaxSuppression.apply(apart[None], scores[None, None], iou_threshold)[:, 2]
    return kept[scores[kept].sort(descending=True)[1]]


def extract(extractor: nn.Module, features: tuple, boxes: Tensor) -> Tensor:
    """(N, C, h, w) features of (N, 4) boxes, each from the level for its size."""
    layers = extractor.roi_layers
    image = torch.zeros_like(boxes[:, 0], dtype=torch.int64)
    levels = extractor.map_roi_levels(torch.cat([image[:, None], boxes], dim=1), len(layers))
    members = [(levels == level).nonzero()[:, 0] for level in range(len(layers))]
    parts = [
        _RoiAlign.apply(features[level], boxes[index], image[index], layers[level])
        for level, index in enumerate(members)
    ]
    return torch.cat(parts)[torch.cat(members).argsort()]
