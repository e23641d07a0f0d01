#!/usr/bin/env python3
"""Time and memory of scoring dense images: CellMetric with all its figures against mmdet's CocoMetric with masks alone.

Both take the same predictions, as run-length codes, from the batch to the figures. Memory is the peak of the resident
size above that at the start. Baseline: mmdet.evaluation.CocoMetric(metric='segm'), which scores by pycocotools.
"""

import argparse
import contextlib
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import measure, print_table
from mmdet.registry import METRICS
from pycocotools import mask as mask_utils

from cellseg_mm.datasets import CLASSES
from cellseg_mm.structures import encode_instances


def draw_discs(centers: np.ndarray, radii: np.ndarray, size: int) -> np.ndarray:
    """(size, size) id map of N discs; a pixel in reach of several goes to the last."""
    id_map = np.zeros((size, size), np.int32)
    for number, ((x, y), radius) in enumerate(zip(centers, radii, strict=True), start=1):
        left, right, top, bottom = (
            int(np.clip(value, 0, size)) for value in (x - radius, x + radius + 1, y - radius, y + radius + 1)
        )
        rows, cols = np.ogrid[top:bottom, left:right]
        inside = (rows - y) ** 2 + (cols - x) ** 2 <= radius**2
        id_map[top:bottom, left:right][inside] = number
    return id_map


def make_image(rng: np.random.Generator, size: int, num_cells: int, num_detections: int) -> tuple:
    """Codes and labels of the cells, and codes, labels and scores of detections: each cell found, and spurious ones."""
    side = int(np.ceil(num_cells**0.5))
    grid = np.stack(np.unravel_index(np.arange(num_cells), (side, side)), axis=1)
    centers = (grid + 0.5) * size / side + rng.normal(0, 2, (num_cells, 2))
    radii = rng.uniform(0.25, 0.45, num_cells) * size / side
    labels = rng.integers(0, len(CLASSES), num_cells)
    codes = encode_instances(draw_discs(centers, radii, size), num_cells)

    extra = num_detections - num_cells
    moved = draw_discs(centers + rng.normal(0, 1, centers.shape), radii * rng.uniform(0.9, 1.1, num_cells), size)
    spurious = draw_discs(rng.uniform(0, size, (extra, 2)), rng.uniform(0.2, 0.4, extra) * size / side, size)
    found = encode_instances(moved, num_cells) + encode_instances(spurious, extra)
    found_labels = np.append(np.where(rng.random(num_cells) < 0.9, labels, 0), rng.integers(0, len(CLASSES), extra))
    return codes, labels, found, found_labels, np.append(rng.beta(5, 2, num_cells), rng.beta(2, 5, extra))


def make_case(folder: Path, images: int, size: int, num_cells: int, num_detections: int) -> tuple:
    """The annotation file, and the samples that a model would hand to a metric."""
    entries, annotations, samples = [], [], []
    for image_id in range(1, images + 1):
        rng = np.random.default_rng([0, image_id])
        codes, labels, found, found_labels, scores = make_image(rng, size, num_cells, num_detections)
        entries.append(dict(id=image_id, file_name=f'{image_id}.png', height=size, width=size))
        for code, label in zip(codes, labels.tolist(), strict=True):
            extents = dict(bbox=mask_utils.toBbox(code).tolist(), area=float(mask_utils.area(code)))
            entry = dict(image_id=image_id, category_id=label + 1, segmentation=code, iscrowd=0, **extents)
            annotations.append(dict(entry, id=len(annotations) + 1))
        boxes = mask_utils.toBbox(found)
        boxes[:, 2:] += boxes[:, :2]
        instances = dict(bboxes=torch.from_numpy(boxes), scores=torch.from_numpy(scores), masks=found)
        instances['labels'] = torch.from_numpy(found_labels)
        samples.append(dict(img_id=image_id, ori_shape=(size, size), pred_instances=instances))
    categories = [dict(id=number, name=name) for number, name in enumerate(CLASSES, start=1)]
    path = folder / 'annotations.json'
    path.write_text(json.dumps(dict(images=entries, annotations=annotations, categories=categories)), encoding='utf-8')
    return path, samples


def score(config: dict, samples: list) -> dict:
    """A metric's figures, by the way that a test takes; what it prints is not shown."""
    with contextlib.redirect_stdout(io.StringIO()):
        metric = METRICS.build(config)
        metric.dataset_meta = dict(classes=CLASSES)
        for sample in samples:
            metric.process({}, [sample])
        return metric.evaluate(len(samples))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=14)
    parser.add_argument('--size', type=int, default=1000, help='px')
    parser.add_argument('--cells', type=int, default=600)
    parser.add_argument('--detections', type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, samples = make_case(Path(folder), args.images, args.size, args.cells, args.detections)
        ours = measure(lambda: score(dict(type='CellMetric', ann_file=str(path)), samples), repeats=3)
        stock_config = dict(type='CocoMetric', ann_file=str(path), metric='segm', proposal_nums=(100, 300, 1000))
        stock = measure(lambda: score(stock_config, samples))
        figures = len(score(dict(type='CellMetric', ann_file=str(path)), samples))
    rows = [['CellMetric', figures, f'{ours[0]:.2f}', f'{ours[1]:.0f}']]
    rows.append(['CocoMetric, segm', 6, f'{stock[0]:.2f}', f'{stock[1]:.0f}'])
    print_table(['metric', 'figures', 's', 'MiB'], rows)
    print(f'memory_ratio {stock[1] / max(ours[1], 0.1):.1f}')
    print(f'ratio {stock[0] / ours[0]:.1f}')


if __name__ == '__main__':
    main()
