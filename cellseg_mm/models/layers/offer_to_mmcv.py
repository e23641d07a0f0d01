import importlib

import mmcv.ops

from .sparse_nms import sparse_nms
from .sparse_roi_align import SparseRoIAlign


def offer_to_mmcv() -> None:
    """Let configs name ``sparse_nms`` and ``SparseRoIAlign``, for which mmcv has no registry.

    mmcv's ``batched_nms`` looks a name up in its own module, mmdet's extractors look one up in ``mmcv.ops``.
    """
    importlib.import_module('mmcv.ops.nms').sparse_nms = sparse_nms
    mmcv.ops.SparseRoIAlign = SparseRoIAlign
