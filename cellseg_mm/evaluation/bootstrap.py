"""Confidence intervals of metrics and of differences between runs, from resampled test images.

A run is reduced to its :class:`Evidence`: what each test image adds to average precision and to panoptic quality. The
metrics of any multiset of images follow from it by weighting, without scoring masks again.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as mask_utils

from cellseg_mm.structures import to_code

from .instance_scores import panoptic_counts
from .metrics import MAX_DETS
from .scene import make_scenes

CONFIDENCE = 95  # per cent, of all intervals
# COCO's
IOU_THRS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Evidence:
    """One run's masks on I test images with C classes: D detections in the order of falling score.

    Attributes:
        image: (D,) int64 index of the image.
        label: (D,) int64 class index.
        hits: (D, 10) bool, whether it is a true positive at each of :data:`IOU_THRS`.
        ignored: (D, 10) bool, whether it counts as neither right nor wrong, because it lies in an ignored region.
        actual: (I, C) int64, number of ground-truth cells.
        pq: (I,) float64, panoptic quality regardless of class at the score threshold; nan for a blank image.
    """

    image: np.ndarray
    label: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    actual: np.ndarray
    pq: np.ndarray

    def to_dict(self) -> dict:
        """Convert for JSON; the thresholds of a detection become the bits of a number, the lowest threshold first."""
        bits = 1 << np.arange(len(IOU_THRS))
        return dict(
            image=self.image.tolist(),
            label=self.label.tolist(),
            hits=(self.hits @ bits).tolist(),
            ignored=(self.ignored @ bits).tolist(),
            actual=self.actual.tolist(),
            pq=[None if np.isnan(value) else value for value in self.pq],
        )

    @classmethod
    def from_dict(cls, content: dict) -> 'Evidence':
        """Convert back from :meth:`to_dict`."""
        image, label, hits, ignored = (
            np.array(content[key], np.int64) for key in ('image', 'label', 'hits', 'ignored')
        )
        bits = np.arange(len(IOU_THRS))
        pq = np.array([np.nan if value is None else value for value in content['pq']], np.float64)
        unpacked = [(value[:, None] >> bits & 1).astype(bool) for value in (hits, ignored)]
        return cls(image, label, *unpacked, np.array(content['actual'], np.int64), pq)


def gather_evidence(ground_truth: dict, results: list, score_thr: float) -> Evidence:
    """Evidence from COCO annotations and COCO results, from at most 1,000 detections for each image and class.

    Args:
        ground_truth (dict): COCO content.
        results (list[dict]): COCO results.
        score_thr (float): Score threshold of PQ.
    """
    label_of = {entry['id']: index for index, entry in enumerate(ground_truth['categories'])}
    cells, detections = defaultdict(list), defaultdict(list)
    for group, entries in ((cells, ground_truth['annotations']), (detections, results)):
        for entry in entries:
            group[entry['image_id'], label_of[entry['category_id']]].append(entry)
    images = ground_truth['images']
    actual = np.zeros((len(images), len(label_of)), np.int64)
    scores, columns = [np.zeros(0)], [np.zeros((0, 2 + 2 * len(IOU_THRS)), np.int64)]
    for index, image in enumerate(images):
        for label in range(len(label_of)):
            own = cells[image['id'], label]
            is_ignored = np.array([bool(entry.get('iscrowd', 0)) for entry in own], bool)
            actual[index, label] = np.count_nonzero(~is_ignored)
            found = sorted(detections[image['id'], label], key=lambda entry: -entry['score'])[: MAX_DETS[-1]]
            if not found:
                continue
            codes = [to_code(entry['segmentation'], image['height'], image['width']) for entry in own]
            iou = mask_utils.iou([entry['segmentation'] for entry in found], codes, is_ignored) if own else []
            flags = match_detections(np.reshape(iou, (len(found), len(own))), is_ignored)
            place = np.tile([index, label], (len(found), 1))
            columns.append(np.concatenate([place, *flags], axis=1))
            scores.append([entry['score'] for entry in found])
    table = np.concatenate(columns)[np.argsort(-np.concatenate(scores), kind='stable')]
    hits, ignored = np.split(table[:, 2:].astype(bool), 2, axis=1)
    pq = panoptic_counts([scene.above(score_thr) for scene in make_scenes(ground_truth, results)]).quality()[0]
    return Evidence(table[:, 0], table[:, 1], hits, ignored, actual, pq)


def match_detections(iou: np.ndarray, is_ignored: np.ndarray) -> tuple:
    """COCO's greedy matching of one image and class, at all :data:`IOU_THRS`.

    In the order of falling score, each detection takes the free cell of highest IoU that reaches the threshold, the
    last of equal ones; if no cell does, an ignored region, which stays free (``COCOeval.evaluateImg``).

    Args:
        iou (ndarray): (D, G) float64 of detections and ground truth; for an ignored region, the share of the detection
            inside.
        is_ignored (ndarray): (G,) bool.

    Returns:
        tuple: (D, 10) bool each: matched to a cell, matched to an ignored region.

    Examples:
        Both detections fit the first cell better; it goes to the first, so the second takes the other cell, which it
        reaches at the two lowest thresholds, 0.5 and 0.55:

        >>> hits, _ = match_detections(np.array([[0.95, 0.5], [0.7, 0.55]]), np.zeros(2, bool))
        >>> hits.sum(axis=1).tolist()
        [10, 2]
    """
    hits, ignored = np.zeros((2, len(iou), len(IOU_THRS)), bool)
    thresholds = np.arange(len(IOU_THRS))
    is_free = np.ones((len(IOU_THRS), iou.shape[1]), bool)
    reaches = iou[:, None, :] >= np.minimum(IOU_THRS, 1 - 1e-10)[:, None]
    for index in np.flatnonzero(reaches.any(axis=(1, 2))):
        cells = reaches[index] & is_free & ~is_ignored
        best = iou.shape[1] - 1 - np.where(cells, iou[index], -1)[:, ::-1].argmax(axis=1)
        hits[index] = cells[thresholds, best]
        is_free[thresholds[hits[index]], best[hits[index]]] = False
        ignored[index] = ~hits[index] & (reaches[index] & is_ignored).any(axis=1)
    return hits, ignored


def resampled_metrics(evidence: Evidence, weights: np.ndarray, classes: Sequence = ()) -> dict:
    """Metrics of a run on resampled test images.

    Args:
        evidence (Evidence): The run's evidence on I images.
        weights (ndarray): (R, I) numbers, how often each image is drawn; all ones give the run's metrics.
        classes (Sequence[str]): Names of the C classes, to add their metrics.

    Returns:
        dict[str, ndarray]: (R,) float64 each: ``segm_AP50_max1000``, ``segm_mAP_max1000``, ``PQ``, and
        ``segm_AP50_max1000_CLASS`` of each named class; nan if undefined.
    """
    by_class = np.full((len(weights), evidence.actual.shape[1], len(IOU_THRS)), np.nan)
    for label in range(evidence.actual.shape[1]):
        own = evidence.label == label
        image, hits, wrong = evidence.image[own], evidence.hits[own].T, ~(evidence.hits | evidence.ignored)[own].T
        for row, weight in enumerate(weights):
            actual = weight @ evidence.actual[:, label]
            if actual:
                by_class[row, label] = _average_precision(weight[image], hits, wrong, actual)
    defined = ~np.isnan(evidence.pq)
    with np.errstate(invalid='ignore'):
        pq = weights[:, defined] @ evidence.pq[defined] / weights[:, defined].sum(axis=1)
        has_cells = (~np.isnan(by_class[..., 0])).sum(axis=1)
        ap50, mean = np.nansum(by_class[..., 0], axis=1), np.nansum(by_class.mean(axis=2), axis=1)
        metrics = dict(segm_AP50_max1000=ap50 / has_cells, segm_mAP_max1000=mean / has_cells, PQ=pq)
    return metrics | {f'segm_AP50_max1000_{name}': by_class[:, label, 0] for label, name in enumerate(classes)}


def _average_precision(weight: np.ndarray, hits: np.ndarray, wrong: np.ndarray, actual: float) -> np.ndarray:
    """(T,) average precision of D weighted detections in the order of falling score; hits and wrong are (T, D)."""
    right, total = np.cumsum(weight * hits, axis=1), np.cumsum(weight * (hits | wrong), axis=1)
    precision = right / np.maximum(total, np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    result = np.zeros(len(hits))
    for index, recall in enumerate(right / actual):
        reached = np.searchsorted(recall, RECALLS)
        result[index] = precision[index, reached[reached < len(recall)]].sum() / len(RECALLS)
    return result


def metric_intervals(evidence: Evidence, classes: Sequence, num_resamples: int = 1000) -> dict:
    """Metrics of one run, with bootstrap intervals over test images, see :func:`paired_difference`.

    They show how far other images of the same kind would move a metric, not the spread over seeds. With few images, or
    few that have a cell of the class, they are rough and tend to be too narrow.

    Args:
        evidence (Evidence): The run's evidence.
        classes (Sequence[str]): Names of its classes.
        num_resamples (int): Number of resamples.

    Returns:
        dict[str, tuple]: Name of a metric of :func:`resampled_metrics` to (metric, low, high); nan if undefined.
    """
    weights = _draw_images(np.random.default_rng(0), len(evidence.actual), num_resamples)
    return {name: _interval(series) for name, series in resampled_metrics(evidence, weights, classes).items()}


def _draw_images(rng: np.random.Generator, num_images: int, num_resamples: int) -> np.ndarray:
    """(1 + R, I) int64, how often each resample draws each image; the first row draws each image once."""
    weights = rng.multinomial(num_images, np.full(num_images, 1 / num_images), num_resamples)
    return np.concatenate([np.ones((1, num_images), np.int64), weights])


def _interval(series: np.ndarray) -> tuple:
    """The first value, and :func:`percentile_interval` of the others, nan left out."""
    drawn = series[1:][~np.isnan(series[1:])]
    return float(series[0]), *(percentile_interval(drawn) if len(drawn) else (float('nan'), float('nan')))


def percentile_interval(drawn: np.ndarray) -> tuple:
    """The percentiles of a metric of R resamples, (R,), between which :data:`CONFIDENCE` per cent of them lie."""
    outside = (100 - CONFIDENCE) / 2
    return tuple(np.percentile(drawn, [outside, 100 - outside]).tolist())


def paired_difference(row: dict, above: dict, num_resamples: int = 1000) -> dict:
    """Differences between two rows of an ablation, with bootstrap intervals over test images and seeds.

    Each resample draws the test images with replacement, the same ones for all runs, and the seeds with replacement:
    the same ones for both rows if the rows share their seeds, else each row's own (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 13: percentile interval). With one seed the interval covers images
    only, and with two or three it still shows too little of the spread over seeds.

    Args:
        row (dict[int, Evidence]): Seed to evidence.
        above (dict[int, Evidence]): The same for the row above, on the same test images.
        num_resamples (int): Number of resamples.

    Returns:
        dict[str, tuple]: Name of a metric to (difference, low, high).
    """
    rng = np.random.default_rng(0)
    num_images = len(next(iter(row.values())).actual)
    weights = _draw_images(rng, num_images, num_resamples)
    shared = row.keys() == above.keys()
    draws = [rng.integers(0, len(runs), (num_resamples, len(runs))) for runs in (row, above)]
    values = []
    for runs, drawn in zip((row, above), (draws[0], draws[0] if shared else draws[1]), strict=True):
        metrics = [resampled_metrics(runs[key], weights) for key in sorted(runs)]
        stacked = {name: np.stack([entry[name] for entry in metrics]) for name in metrics[0]}
        # the first column is the row itself; in the others each resample has its own images and seeds
        values.append(
            {
                name: np.append(table[:, 0].mean(), table[drawn, np.arange(1, num_resamples + 1)[:, None]].mean(axis=1))
                for name, table in stacked.items()
            }
        )
    return {name: _interval(values[0][name] - values[1][name]) for name in values[0]}
