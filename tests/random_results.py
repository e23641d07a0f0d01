"""Random ground truth and detections of dense images, for tests of scores."""

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from cellseg_mm.structures import encode_instances


def encode(mask):
    code = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=code['size'], counts=code['counts'].decode())


def disc(shape, center, radius):
    mask = np.zeros(shape, np.uint8)
    cv2.circle(mask, tuple(round(value) for value in center), int(radius), 1, cv2.FILLED)
    return mask


def annotation(image_id, label, code, **more):
    box = mask_utils.toBbox(code).tolist()
    return dict(image_id=image_id, category_id=label + 1, bbox=box, segmentation=code, **more)


def make_ground_truth(shape, annotations, num_images=1, num_classes=4):
    return dict(
        images=[
            dict(id=number, file_name=f'{number}.png', height=shape[0], width=shape[1])
            for number in range(1, num_images + 1)
        ],
        annotations=[
            dict(dict(area=float(mask_utils.area(entry['segmentation'])), iscrowd=0), **entry, id=number)
            for number, entry in enumerate(annotations, start=1)
        ],
        categories=[dict(id=number, name=f'class {number}') for number in range(1, num_classes + 1)],
    )


def draw_cells(rng, shape, num_cells):
    """An id map of discs that may touch, and their centres and radii; each has a pixel."""
    cells = np.zeros(shape, np.int32)
    centers = rng.uniform(8, np.array(shape[::-1]) - 8, (num_cells, 2))
    radii = rng.uniform(4, 9, num_cells)
    for number, (center, radius) in enumerate(zip(centers, radii, strict=True), start=1):
        cells[(disc(shape, center, radius) > 0) & (cells == 0)] = number
    kept = np.unique(cells)[1:]
    renumbered = np.zeros(num_cells + 1, np.int32)
    renumbered[kept] = np.arange(1, len(kept) + 1)
    return renumbered[cells], centers[kept - 1], radii[kept - 1]


def random_results(seed, num_images=2, num_cells=60, num_detections=90, shape=(160, 200), num_classes=4, crowd=0.0):
    """COCO annotations and results: each cell found again a little off, most of them, and spurious detections.

    Scores repeat, detections overlap one another, and a share ``crowd`` of the cells is marked as ignored.
    """
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image_id in range(1, num_images + 1):
        cells, centers, radii = draw_cells(rng, shape, num_cells)
        labels = rng.integers(0, num_classes, len(centers))
        for label, code in zip(labels, encode_instances(cells, len(centers)), strict=True):
            annotations.append(annotation(image_id, int(label), code, iscrowd=int(rng.random() < crowd)))
        for index in range(num_detections):
            is_found = index < len(centers) and rng.random() < 0.9
            if is_found:
                center, radius = centers[index] + rng.normal(0, 0.7, 2), radii[index] * rng.uniform(0.9, 1.1)
                label = labels[index] if rng.random() < 0.9 else rng.integers(0, num_classes)
            else:
                center, radius = rng.uniform(0, shape[::-1]), rng.uniform(3, 8)
                label = rng.integers(0, num_classes)
            mask = disc(shape, center, radius)
            if mask.any():
                score = round(float(rng.beta(5, 2) if is_found else rng.beta(2, 5)), 2)
                results.append(annotation(image_id, int(label), encode(mask), score=score))
    return make_ground_truth(shape, annotations, num_images, num_classes), results


def perfect_detections(count):
    """One image with so many cells of one class, each found exactly."""
    codes = []
    for index in range(count):
        mask = np.zeros((100, 100), np.uint8)
        row, col = divmod(index, 25)
        mask[4 * row : 4 * row + 3, 4 * col : 4 * col + 3] = 1
        codes.append(encode(mask))
    ground_truth = make_ground_truth((100, 100), [annotation(1, 0, code) for code in codes], num_classes=1)
    return ground_truth, [annotation(1, 0, code, score=1 - index / 1000) for index, code in enumerate(codes)]
