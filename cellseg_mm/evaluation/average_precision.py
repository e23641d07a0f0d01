"""COCO's average precision for any number of detections, by faster-coco-eval or pycocotools."""

import contextlib
import io
from typing import NamedTuple

import numpy as np
from faster_coco_eval import COCO as FasterCOCO
from faster_coco_eval import COCOeval_faster
from faster_coco_eval.core import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# both compute the same metrics; pycocotools is the reference and takes ten times as long
ENGINES = {'faster_coco_eval': (FasterCOCO, COCOeval_faster), 'pycocotools': (COCO, COCOeval)}
# Square roots of the area in px. 70 % of the course task's cells lie in 16..32, 20 % below; COCO's bounds are 32, 96.
SIZE_BANDS = {'all': (0, 1e5), 'under_16px': (0, 16), '16_to_32px': (16, 32), 'over_32px': (32, 1e5)}


class AveragePrecision(NamedTuple):
    """Precision in COCO's form.

    Attributes:
        precision: (T, R, C, A, M) float64 over IoU thresholds 0.5, 0.55, ..., 0.95, recalls 0, 0.01, ..., 1, classes
            in the order of the ground truth, sizes and numbers of detections; -1 without ground truth.
        max_dets: M numbers of detections for each image and class.
        bands: A names of sizes.
    """

    precision: np.ndarray
    max_dets: tuple
    bands: tuple

    def mean(self, max_dets: int, iou_thr: float | None = None, label: int | None = None, band: str = 'all') -> float:
        """Mean average precision, nan without ground truth.

        Args:
            max_dets (int): Number of detections that count for each image and class.
            iou_thr (float | None): One threshold; None for the mean over the ten.
            label (int | None): One class; None for the mean over all classes with ground truth.
            band (str): One of ``bands``.
        """
        values = self.precision[..., self.bands.index(band), self.max_dets.index(max_dets)]
        if iou_thr is not None:
            values = values[[round((iou_thr - 0.5) / 0.05)]]
        if label is not None:
            values = values[..., [label]]
        values = values[values > -1]
        return float(values.mean()) if len(values) else float('nan')


def average_precision(
    ground_truth: dict,
    results: list,
    iou_type: str,
    max_dets: tuple = (100, 1000),
    engine: str = 'faster_coco_eval',
    bands: dict | None = None,
) -> AveragePrecision:
    """Average precision of detections against COCO annotations.

    pycocotools' own summary computes its headline mAP at 100 detections an image whatever ``maxDets`` says; here all
    metrics are computed for each number.

    Args:
        ground_truth (dict): COCO content: images, annotations (bbox, area, iscrowd, segmentation), categories. The ids
            of annotations are ignored.
        results (list[dict]): image_id, category_id, score, and bbox [x, y, w, h] or segmentation (run-length code).
        iou_type (str): ``'segm'`` or ``'bbox'``.
        max_dets (tuple[int]): Numbers of detections for each image and class, ascending.
        engine (str): A key of :data:`ENGINES`.
        bands (dict[str, tuple] | None): Names of sizes to ranges of the square root of the area; None for
            :data:`SIZE_BANDS`.
    """
    bands = bands or SIZE_BANDS
    coco, evaluator = ENGINES[engine]
    detections = _detections(results, iou_type)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = evaluator(
            _index(coco, ground_truth, _cells(ground_truth['annotations'], iou_type)),
            _index(coco, ground_truth, detections),
            iou_type,
        )
    evaluation.params.maxDets = list(max_dets)
    evaluation.params.areaRng = [[low**2, high**2] for low, high in bands.values()]
    evaluation.params.areaRngLbl = list(bands)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    precision = np.asarray(evaluation.eval['precision'])
    ids = [category['id'] for category in ground_truth['categories']]
    as_listed = np.searchsorted(sorted(ids), ids)  # the evaluators sort classes by id
    return AveragePrecision(precision[:, :, as_listed], tuple(max_dets), tuple(bands))


def _cells(annotations: list, iou_type: str) -> list:
    """Copies of the annotations, for boxes without masks, which would be decoded for nothing.

    Their ids become 1, 2, ...: for the evaluators a cell of id 0 is never found, and cells with the same id are one.
    """
    cells = [dict(entry, id=number) for number, entry in enumerate(annotations, start=1)]
    if iou_type == 'bbox':
        for entry in cells:
            entry.pop('segmentation', None)
    return cells


def _detections(results: list, iou_type: str) -> list:
    """The results with ids, and with the areas of their boxes or masks, whichever are scored."""
    shape = 'bbox' if iou_type == 'bbox' else 'segmentation'
    if iou_type == 'bbox':
        areas = [entry['bbox'][2] * entry['bbox'][3] for entry in results]
    else:
        # pycocotools' own function of this name overflows
        areas = mask_utils.area([entry['segmentation'] for entry in results]).tolist() if results else []
    kept = ('image_id', 'category_id', 'score', shape)
    return [
        dict({key: entry[key] for key in kept}, id=number, area=area, iscrowd=0)
        for number, (entry, area) in enumerate(zip(results, areas, strict=True), start=1)
    ]


def _index(coco: type, ground_truth: dict, annotations: list) -> object:
    """A COCO object with the ground truth's images and classes and these annotations, which it may change."""
    index = coco()
    index.dataset = dict(ground_truth, annotations=annotations)
    index.createIndex()
    return index
