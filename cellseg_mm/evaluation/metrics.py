"""All metrics of cell instance segmentation, from COCO annotations and COCO results, under unambiguous names."""

import numpy as np

from cellseg_mm.utils import paused_garbage_collection

from .average_precision import SIZE_BANDS, average_precision
from .instance_scores import (
    aggregated_jaccard,
    best_score_threshold,
    detection_f1,
    foreground_dice,
    monusac_pq,
    nanmean,
    panoptic_counts,
)
from .scene import make_scenes

MAX_DETS = (100, 1000)
IOU_THRS = {'mAP': None, 'AP50': 0.5, 'AP75': 0.75}
# HoVer-Net's radius, for 40x: Graham et al., Medical Image Analysis 58 (2019) 101563
CENTROID_RADIUS = 12
SCORE_THRS = np.arange(1, 20) / 20


@paused_garbage_collection()
def evaluate(
    ground_truth: dict,
    results: list,
    score_thr: float | None = None,
    engine: str = 'faster_coco_eval',
    centroid_radius: float = CENTROID_RADIUS,
) -> dict:
    """Average precision, and the other metrics at one score threshold.

    In the names, ``*`` is a class, ``segm`` scores masks and ``bbox`` boxes, and ``max100`` and ``max1000`` are the
    numbers of detections that count for each image and class (COCO's maxDets):

    - ``segm_mAP_max1000``, ``segm_AP50_max1000``, ``segm_AP75_max1000``; also ``max100``, ``bbox``, and with ``_*``;
    - ``segm_mAP_max1000_under_16px``, ``_16_to_32px``, ``_over_32px``: by the square root of the cell's area;
    - ``score_thr``: the score threshold of all that follow;
    - ``PQ``, ``DQ``, ``SQ``: regardless of class, averaged over images (HoVer-Net's); 0 without a match;
    - ``mPQ``, ``mDQ``, ``mSQ``: averaged over classes, each pooled over the images: ``PQ_*``, ``DQ_*``, ``SQ_*``;
    - ``monusac_PQ``: see :func:`monusac_pq`;
    - ``AJI``, ``Dice``: regardless of class, averaged over images;
    - ``F1_detection``, ``F1_*``: by the distance of centroids, see :func:`detection_f1`.

    Args:
        ground_truth (dict): COCO content: images, annotations, categories.
        results (list[dict]): COCO results with bbox and segmentation (compressed run-length code).
        score_thr (float | None): 0..1. None chooses the one of the highest ``PQ`` on these data, which is for
            validation.
        engine (str): ``'faster_coco_eval'`` or ``'pycocotools'``.
        centroid_radius (float): Radius of F1 in px.

    Returns:
        dict[str, float]: Metrics by name, not rounded; nan without ground truth.
    """
    classes = [entry['name'] for entry in ground_truth['categories']]
    scenes = make_scenes(ground_truth, results)  # first, because it refuses broken codes
    metrics = {}
    for iou_type in ('segm', 'bbox'):
        bands = SIZE_BANDS if iou_type == 'segm' else {'all': SIZE_BANDS['all']}
        precision = average_precision(ground_truth, results, iou_type, MAX_DETS, engine, bands)
        for max_dets in MAX_DETS:
            for name, iou_thr in IOU_THRS.items():
                key = f'{iou_type}_{name}_max{max_dets}'
                metrics[key] = precision.mean(max_dets, iou_thr)
                for label, class_name in enumerate(classes):
                    metrics[f'{key}_{class_name}'] = precision.mean(max_dets, iou_thr, label)
        for band in list(bands)[1:]:
            key = f'{iou_type}_mAP_max{MAX_DETS[-1]}_{band}'
            metrics[key] = precision.mean(MAX_DETS[-1], band=band)

    if score_thr is None:
        score_thr = best_score_threshold(scenes, SCORE_THRS)[0]
    return metrics | instance_metrics([scene.above(score_thr) for scene in scenes], classes, score_thr, centroid_radius)


def instance_metrics(scenes: list, classes: list, score_thr: float, centroid_radius: float = CENTROID_RADIUS) -> dict:
    """The part of :func:`evaluate` from ``score_thr`` on, from scenes with the predictions above it."""
    of_image = panoptic_counts(scenes).quality()
    by_class = panoptic_counts(scenes, len(classes))
    pooled = by_class.pooled().quality()
    f1, class_f1 = detection_f1(scenes, len(classes), centroid_radius)
    metrics = dict(score_thr=float(score_thr))
    metrics |= {name: nanmean(values) for name, values in zip(('PQ', 'DQ', 'SQ'), of_image, strict=True)}
    for name, values in zip(('PQ', 'DQ', 'SQ'), pooled, strict=True):
        metrics[f'm{name}'] = nanmean(values)
        metrics |= {f'{name}_{class_name}': float(value) for class_name, value in zip(classes, values, strict=True)}
    metrics['monusac_PQ'] = monusac_pq(by_class)
    metrics['AJI'] = nanmean([aggregated_jaccard(scene) for scene in scenes])
    metrics['Dice'] = nanmean([foreground_dice(scene) for scene in scenes])
    metrics['F1_detection'] = f1
    metrics |= {f'F1_{class_name}': float(value) for class_name, value in zip(classes, class_f1, strict=True)}
    return metrics


def class_table(metrics: dict, classes: list) -> tuple:
    """The main metrics by class, for a table.

    Args:
        metrics (dict): From :func:`evaluate`.
        classes (list[str]): Names of the classes.

    Returns:
        tuple: Header, and rows: one for each class, and one for their mean.
    """
    header = ['class', 'segm AP50', 'segm mAP', 'bbox AP50', 'PQ', 'DQ', 'SQ', 'F1 (centroid)']
    keys = ['segm_AP50_max1000', 'segm_mAP_max1000', 'bbox_AP50_max1000', 'PQ', 'DQ', 'SQ', 'F1']
    rows = [[name, *(metrics[f'{key}_{name}'] for key in keys)] for name in classes]
    rows.append(['mean', *(metrics[key] for key in [*keys[:3], 'mPQ', 'mDQ', 'mSQ', 'F1_detection'])])
    return header, rows
