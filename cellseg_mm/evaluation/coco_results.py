"""Predictions as COCO results: the flat list of dicts that the submission, COCO tools and our own tools read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from cellseg_mm.structures import mask_codes
from cellseg_mm.utils import UserError, paused_garbage_collection, read_json, scored_dataset, write_atomically
from cellseg_mm.utils.coco_file import check_entries, is_box, is_id, is_number, read_coco


@dataclass(frozen=True)
class ImageResults:
    """The results of one image. An object, because MMEngine searches lists and dicts for tensors, one by one.

    Attributes:
        image_id: The image's id in the annotations.
        entries: COCO results.
    """

    image_id: int
    entries: list


@paused_garbage_collection()
def encode_predictions(image_id: int, instances: dict, category_ids: Sequence) -> ImageResults:
    """COCO results of one image.

    Args:
        image_id (int): The image's id in the annotations.
        instances (dict): mmdet's ``pred_instances``: bboxes (N, 4) [x1, y1, x2, y2) in px of the image, scores (N,),
            labels (N,) and masks, (N, H, W) bool or N run-length codes.
        category_ids (Sequence[int]): The category id of each class index.

    Returns:
        ImageResults: N entries with image_id, category_id, bbox [x, y, w, h], score and segmentation (run-length code
        whose counts are a str).
    """
    boxes, scores, labels = (np.asarray(instances[key].cpu()) for key in ('bboxes', 'scores', 'labels'))
    masks = mask_codes(instances['masks'])
    boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)
    entries = zip(boxes.tolist(), scores.astype(np.float64).tolist(), labels.tolist(), masks, strict=True)
    return ImageResults(
        image_id,
        [
            dict(image_id=image_id, category_id=category_ids[label], bbox=box, score=score, segmentation=_as_text(mask))
            for box, score, label, mask in entries
        ],
    )


def _as_text(code: dict) -> dict:
    counts = code['counts']
    counts = counts.decode() if isinstance(counts, bytes) else counts
    return dict(size=[int(side) for side in code['size']], counts=counts)


def read_results(path: Path) -> list:
    """The list that :class:`DumpCocoResults` wrote.

    Raises:
        UserError: If it is missing or not such a list, with the first wrong entry. The content of segmentations is
            checked when they are decoded.
    """
    origin = f'make it with tools/test.py CONFIG CHECKPOINT --out {path}'
    results = read_json(path, origin)
    if not isinstance(results, list):
        raise UserError(f'{path}: not a list of COCO results; {origin}')
    checks = dict(
        image_id=(is_id, 'the id of an image'),
        category_id=(is_id, 'the id of a category'),
        score=(is_number, 'a finite number'),
        bbox=(is_box, '4 finite numbers [x, y, w, h]'),
        segmentation=(_is_segmentation, 'a run-length code'),
    )
    check_entries(path, 'result', results, checks)
    return results


def read_ground_truth(path: Path) -> dict:
    """COCO annotations with at least one labelled cell.

    Raises:
        UserError: If the file is missing or not of this form, with the first wrong entry.
    """
    segmentation = (_is_segmentation, 'polygons or a run-length code')
    content = read_coco(path, 'tools/prepare_data.py makes annotations/SPLIT.json', segmentation=segmentation)
    if not content['annotations']:
        raise UserError(f'{path}: holds no annotations to score against')
    return content


def _is_segmentation(value: object) -> bool:
    """Whether a JSON value has the form of a run-length code, or of polygons of three points or more."""
    if isinstance(value, dict):
        return 'size' in value and 'counts' in value
    return isinstance(value, list) and bool(value) and all(isinstance(part, list) and len(part) > 5 for part in value)


def read_tested(dataset: dict) -> dict:
    """The ground truth of the images of a test.

    Args:
        dataset (dict): The config of its dataset: ``data_root``, ``ann_file``, and MMEngine's ``indices``, a number of
            images from the start (below 0: from the end) or a list of indices. It may be wrapped.

    Raises:
        UserError: See :func:`read_ground_truth` and :func:`scored_dataset`.
    """
    dataset = scored_dataset(dataset)
    content = read_ground_truth(Path(dataset['data_root']) / dataset['ann_file'])
    indices, images = dataset.get('indices'), content['images']
    if indices is None:
        return content
    if isinstance(indices, int):
        images = images[:indices] if indices >= 0 else images[indices:]
    else:
        images = [images[index] for index in indices]
    return select_images(content, {image['id'] for image in images})


def select_images(ground_truth: dict, ids: set) -> dict:
    """COCO content with these images only, in their order."""
    return dict(
        ground_truth,
        images=[image for image in ground_truth['images'] if image['id'] in ids],
        annotations=[entry for entry in ground_truth['annotations'] if entry['image_id'] in ids],
    )


@METRICS.register_module()
class DumpCocoResults(BaseMetric):
    """Write all predictions of a test as COCO results. It needs no ground truth and computes no metric.

    Category ids are those of tools/prepare_data.py: class index + 1.

    Args:
        path (str): JSON file.
        collect_device (str): As for every metric.
    """

    default_prefix = 'results'  # unused, but mmengine warns of a metric without a prefix

    def __init__(self, path: str, collect_device: str = 'cpu') -> None:
        super().__init__(collect_device=collect_device)
        self.path = Path(path)

    def process(self, data_batch: dict, data_samples: Sequence) -> None:
        """Keep a batch's predictions."""
        category_ids = range(1, len(self.dataset_meta['classes']) + 1)
        for sample in data_samples:
            self.results.append(encode_predictions(sample['img_id'], sample['pred_instances'], category_ids))

    def compute_metrics(self, results: list) -> dict:
        """Write the file."""
        once = {image.image_id: image for image in results}  # a wrapper may repeat images
        write_atomically(self.path, json.dumps([entry for image in once.values() for entry in image.entries]))
        return {}
