"""The whole detector as ONNX."""

import importlib
import io
import warnings
from types import ModuleType

import numpy as np
import torch
from mmdet.models.detectors import MaskRCNN
from mmdet.structures import DetDataSample
from mmengine.config import Config

from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.utils import UserError
from cellseg_mm.utils.config import flatten

from .metadata import input_sizes
from .traceable_mask_rcnn import TraceableMaskRCNN

# the oldest with RoiAlign's half-pixel coordinates and everything else in the graph
ONNX_OPSET = 16
# the parts whose test path TraceableMaskRCNN follows
TRACEABLE = {
    'type': ('MaskRCNN',),
    'data_preprocessor.bgr_to_rgb': (True,),
    'rpn_head.type': ('RPNHead',),
    'rpn_head.loss_cls.use_sigmoid': (True,),
    'rpn_head.bbox_coder.type': ('DeltaXYWHBBoxCoder',),
    'roi_head.type': ('JointBatchRoIHead', 'StandardRoIHead'),
    'roi_head.bbox_roi_extractor.type': ('SingleRoIExtractor',),
    'roi_head.bbox_roi_extractor.roi_layer.type': ('RoIAlign', 'SparseRoIAlign'),
    'roi_head.bbox_head.type': ('OneClassBBoxHead', 'Shared2FCBBoxHead', 'Shared4Conv1FCBBoxHead'),
    'roi_head.bbox_head.loss_cls.type': ('CrossEntropyLoss',),
    'roi_head.bbox_head.bbox_coder.type': ('DeltaXYWHBBoxCoder',),
    'roi_head.mask_roi_extractor.type': ('SingleRoIExtractor',),
    'roi_head.mask_roi_extractor.roi_layer.type': ('RoIAlign', 'SparseRoIAlign'),
    'roi_head.mask_head.type': ('FCNMaskHead', 'RLEMaskHead'),
    'test_cfg.rpn.nms.type': ('nms', 'sparse_nms'),
    'test_cfg.rcnn.nms.type': ('nms', 'sparse_nms'),
}


def check_traceable(cfg: Config, path: str) -> None:
    """Refuse a model whose parts :class:`TraceableMaskRCNN` does not know.

    Raises:
        UserError: Naming the first one.
    """
    values = dict(flatten(cfg.model))
    for key, known in TRACEABLE.items():
        if values.get(key) not in known:
            allowed = ' or '.join(map(repr, known))
            raise UserError(
                f'{path}: model.{key} is {values.get(key)!r}, but an ONNX file can hold only {allowed}; '
                '--out FILE.safetensors takes any model'
            )
    for key in ('test_cfg.rpn.nms_pre', 'test_cfg.rpn.max_per_img', 'test_cfg.rcnn.max_per_img'):
        if values.get(key, 0) < 1:
            raise UserError(f'{path}: model.{key} is {values.get(key)}; for an ONNX file give a number above 0')
    if input_sizes(cfg) is None:
        raise UserError(
            f'{path}: the test pipeline needs a Resize with scale and keep_ratio=True, which an ONNX file states'
        )


def to_onnx(detector: MaskRCNN, notes: dict) -> bytes:
    """The whole detector, see :class:`TraceableMaskRCNN`, as an ONNX model for images of any size.

    Args:
        detector (MaskRCNN): On the CPU, in eval mode.
        notes (dict[str, str]): Its metadata.

    Raises:
        UserError: If the package onnx is missing.
    """
    onnx = _optional('onnx')
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        # the tracer warns of assertions that hold, and torch recommends its other exporter (see docs/deploy.md)
        warnings.simplefilter('ignore')
        torch.onnx.export(
            TraceableMaskRCNN(detector).eval(),
            (torch.from_numpy(drawn_image()),),
            buffer,
            input_names=['image'],
            output_names=['boxes', 'scores', 'labels', 'masks'],
            dynamic_axes=dict(
                image={0: 'height', 1: 'width'},
                **{name: {0: 'cells'} for name in ('boxes', 'scores', 'labels', 'masks')},
            ),
            opset_version=ONNX_OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(model, notes)
    return model.SerializeToString()


def drawn_image() -> np.ndarray:
    """(256, 256, 3) uint8 RGB: tissue with cells, to trace and to compare on."""
    return draw_tissue(np.random.default_rng(0), 256, 256)[0]


def detect(detector: MaskRCNN, image: np.ndarray) -> tuple:
    """Boxes (N, 4), scores (N,) and labels (N,) that a detector finds in an (H, W, 3) uint8 RGB image."""
    sample = DetDataSample(metainfo=dict(img_shape=image.shape[:2], ori_shape=image.shape[:2], scale_factor=(1.0, 1.0)))
    bgr = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
    with torch.no_grad():
        found = detector.test_step(dict(inputs=[bgr], data_samples=[sample]))[0].pred_instances
    return found.bboxes, found.scores, found.labels


def compare(detector: MaskRCNN, model: bytes) -> str:
    """Run an ONNX model and its detector on a drawn image; say on how many cells they agree.

    They agree on a cell of the same label, with boxes within 0.01 px and scores within 1e-4.

    Args:
        detector (MaskRCNN): On the CPU, in eval mode.
        model (bytes): From :func:`to_onnx`.

    Raises:
        UserError: If they differ in more than a hundredth of the cells, which equal scores or overlaps at the threshold
            could explain; or if the package onnxruntime is missing.
    """
    session = _optional('onnxruntime').InferenceSession(model, providers=['CPUExecutionProvider'])
    image = drawn_image()
    boxes, scores, labels = map(torch.from_numpy, session.run(['boxes', 'scores', 'labels'], {'image': image}))
    expected_boxes, expected_scores, expected_labels = detect(detector, image)
    same = labels[:, None] == expected_labels
    same &= torch.cdist(scores[:, None], expected_scores[:, None], p=torch.inf) < 1e-4
    same &= torch.cdist(boxes, expected_boxes, p=torch.inf) < 1e-2
    both = int(same.any(dim=1).sum())
    either = len(boxes) + len(expected_boxes) - both
    if both < 0.99 * either:
        raise UserError(
            f'onnxruntime and the checkpoint agree on only {both} of {either} cells: the model does more than an ONNX '
            'file can hold; --out FILE.safetensors takes any model'
        )
    return f'onnxruntime and the checkpoint agree on {both} of {either} cells of a drawn image'


def _optional(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f'ONNX files need the package {package}: pip install onnx onnxruntime') from error
