import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps

from cellseg_mm.structures import Runs


def mask_boxes(runs: Runs, num_instances: int, height: int) -> np.ndarray:
    """(N, 4) int64 boxes [x1, y1, x2, y2) in px; zeros for an instance without a pixel."""
    last = runs.start + runs.length - 1
    x1, x2 = runs.start // height, last // height + 1
    whole_column = x2 - x1 > 1
    y1, y2 = np.where(whole_column, 0, runs.start % height), np.where(whole_column, height, last % height + 1)
    boxes = np.zeros((num_instances, 4), np.int64)
    owners, first = np.unique(runs.owner, return_index=True)
    if len(owners):
        ends = [np.minimum.reduceat(x1, first), np.minimum.reduceat(y1, first)]
        ends += [np.maximum.reduceat(x2, first), np.maximum.reduceat(y2, first)]
        boxes[owners] = np.stack(ends, axis=1)
    return boxes


def aligned_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) IoU of (N, 4) boxes [x1, y1, x2, y2) in pairs."""
    tensors = (torch.as_tensor(values, dtype=torch.float64) for values in (boxes, others))
    return bbox_overlaps(*tensors, is_aligned=True).numpy()
