"""Dense images for the benchmarks: round cells on a jittered grid, and detections of them, as run-length codes."""

import contextlib
import io
import json
import logging
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import METRICS
from pycocotools import mask as mask_utils

from cellseg_mm.datasets import CLASSES
from cellseg_mm.structures import encode_instances


def draw_discs(centers: np.ndarray, radii: np.ndarray, shape: tuple) -> np.ndarray:
    """An id map (H, W) of N discs, centres (x, y); a pixel in reach of several goes to the last."""
    id_map = np.zeros(shape, np.int32)
    limits = np.array(shape[::-1])
    for number, (center, radius) in enumerate(zip(centers, radii, strict=True), start=1):
        left, top = np.clip(center - radius, 0, limits).astype(int)
        right, bottom = np.clip(center + radius + 1, 0, limits).astype(int)
        rows, cols = np.ogrid[top:bottom, left:right]
        inside = (rows - center[1]) ** 2 + (cols - center[0]) ** 2 <= radius**2
        id_map[top:bottom, left:right][inside] = number
    return id_map


def make_image(rng: np.random.Generator, shape: tuple, num_cells: int, num_detections: int) -> tuple:
    """Codes and labels of the cells, and codes, labels and scores of detections: each cell found, and spurious ones."""
    pitch = np.sqrt(shape[0] * shape[1] / num_cells)
    columns = int(np.ceil(shape[1] / pitch))
    grid = np.stack(np.divmod(np.arange(num_cells), columns)[::-1], axis=1)
    centers = (grid + 0.5) * pitch + rng.normal(0, 0.05 * pitch, (num_cells, 2))
    radii = rng.uniform(0.25, 0.45, num_cells) * min(pitch, 60)
    labels = rng.integers(0, len(CLASSES), num_cells)
    codes = encode_instances(draw_discs(centers, radii, shape), num_cells)

    extra = num_detections - num_cells
    moved = draw_discs(centers + rng.normal(0, 1, centers.shape), radii * rng.uniform(0.9, 1.1, num_cells), shape)
    spurious = draw_discs(rng.uniform(0, shape[::-1], (extra, 2)), rng.choice(radii, extra), shape)
    found = encode_instances(moved, num_cells) + encode_instances(spurious, extra)
    found_labels = np.append(np.where(rng.random(num_cells) < 0.9, labels, 0), rng.integers(0, len(CLASSES), extra))
    return codes, labels, found, found_labels, np.append(rng.beta(5, 2, num_cells), rng.beta(2, 5, extra))


def make_predictions(folder: Path, images: int, shape: tuple, num_cells: int, num_detections: int) -> tuple:
    """The path of an annotation file, and the samples of a metric, one for each image."""
    height, width = shape
    entries, annotations, samples = [], [], []
    for image_id in range(1, images + 1):
        rng = np.random.default_rng([0, image_id])
        codes, labels, found, found_labels, scores = make_image(rng, shape, num_cells, num_detections)
        entries.append(dict(id=image_id, file_name=f'{image_id}.png', height=height, width=width))
        for code, label in zip(codes, labels.tolist(), strict=True):
            extents = dict(bbox=mask_utils.toBbox(code).tolist(), area=float(mask_utils.area(code)))
            entry = dict(image_id=image_id, category_id=label + 1, segmentation=code, iscrowd=0, **extents)
            annotations.append(dict(entry, id=len(annotations) + 1))
        boxes = mask_utils.toBbox(found)
        boxes[:, 2:] += boxes[:, :2]
        instances = dict(bboxes=torch.from_numpy(boxes).float(), scores=torch.from_numpy(scores).float(), masks=found)
        instances['labels'] = torch.from_numpy(found_labels)
        samples.append(dict(img_id=image_id, ori_shape=shape, pred_instances=instances))
    categories = [dict(id=number, name=name) for number, name in enumerate(CLASSES, start=1)]
    path = folder / 'annotations.json'
    path.write_text(json.dumps(dict(images=entries, annotations=annotations, categories=categories)), encoding='utf-8')
    return path, samples


def score(config: dict, samples: list) -> dict:
    """The metrics that a metric class computes in a test, without its prints."""
    logging.disable(logging.INFO)
    with contextlib.redirect_stdout(io.StringIO()):
        metric = METRICS.build(config)
        metric.dataset_meta = dict(classes=CLASSES)
        for sample in samples:
            metric.process({}, [sample])
        return metric.evaluate(len(samples))
