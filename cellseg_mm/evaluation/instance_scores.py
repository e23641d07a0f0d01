"""Metrics of instance segmentation over a set of images, from their :class:`Scene` s. All are 0..1, nan if undefined.

Papers differ in which overlap counts as a hit, and in what is averaged, which moves metrics by tenths. Each function
says which form it computes.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from .scene import Scene


class PanopticCounts(NamedTuple):
    """The counts behind panoptic quality; arrays of the same shape.

    Attributes:
        iou_sum: Sum of the IoU of the matched pairs.
        matched: Number of matched pairs (TP).
        predicted: Number of predictions (TP + FP).
        actual: Number of ground-truth cells (TP + FN).
    """

    iou_sum: np.ndarray
    matched: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray

    def quality(self) -> tuple:
        """PQ, DQ and SQ. Kirillov et al., Panoptic Segmentation, CVPR 2019, equation 1; ``PQ = DQ * SQ``.

        ``DQ = TP / (TP + FP/2 + FN/2)``, ``SQ = sum of IoU / TP``. All three are nan if there is neither a prediction
        nor a ground-truth cell, and 0 if there are some but none match, as in HoVer-Net's ``get_fast_pq``
        (``metrics/stats_utils.py``), CoNIC's script, torchmetrics and the panoptic API.
        """
        total = self.predicted + self.actual
        with np.errstate(invalid='ignore'):
            pq, dq = 2 * self.iou_sum / total, 2 * self.matched / total
            return pq, dq, np.where(total > 0, self.iou_sum / np.maximum(self.matched, 1), np.nan)

    def pooled(self) -> 'PanopticCounts':
        """Return the sums over the first axis."""
        return PanopticCounts(*(np.sum(values, axis=0) for values in self))


def panoptic_counts(scenes: list, num_classes: int | None = None) -> PanopticCounts:
    """Counts of each image.

    Args:
        scenes (list[Scene]): I images.
        num_classes (int | None): C, to count each class apart, so that only pairs of equal class match. None counts
            regardless of class.

    Returns:
        PanopticCounts: Arrays (I,), or (I, C) by class.
    """
    rows = []
    for scene in scenes:
        gt, pred, iou = scene.matches()
        if num_classes is None:
            rows.append((iou.sum(), len(iou), len(scene.labels), len(scene.gt_labels)))
            continue
        equal = scene.gt_labels[gt] == scene.labels[pred]
        matched = scene.gt_labels[gt[equal]]
        rows.append(
            (
                np.bincount(matched, iou[equal], num_classes),
                np.bincount(matched, minlength=num_classes),
                np.bincount(scene.labels, minlength=num_classes),
                np.bincount(scene.gt_labels, minlength=num_classes),
            )
        )
    return PanopticCounts(*(np.array(column) for column in zip(*rows, strict=True)))


def monusac_pq(counts: PanopticCounts) -> float:
    """PQ by the protocol of MoNuSAC's script: for each class in each image **that has such a cell**, then averaged.

    Predictions of a class without cells in the image never count as wrong, so this metric flatters. The script is
    ``PQ_metric.ipynb`` of https://github.com/ruchikaverma-iitg/MoNuSAC as corrected on 2021-12-02 (commit 4d08291): it
    removes the matching predictions from its list of false positives. Before, it removed the ids of the cells, so that
    the metrics of the challenge depend on how a submission numbers its cells (Foucart et al., IEEE Trans. Med. Imaging
    41 (2022), doi 10.1109/TMI.2022.3156023). One difference is left: the part of a prediction outside of ``Ambiguous``
    regions always counts there; here only if it is at least half of the prediction, or matches a cell.

    Args:
        counts (PanopticCounts): Counts (I, C).
    """
    pq, _, _ = counts.quality()
    return nanmean(pq[counts.actual > 0])


def best_score_threshold(scenes: list, candidates: np.ndarray) -> tuple:
    """The score threshold of the highest class-agnostic PQ, averaged over images.

    Args:
        scenes (list[Scene]): Scenes with all predictions.
        candidates (ndarray): (T,) thresholds.

    Returns:
        tuple: The threshold, the highest of equally good ones, or 0.5 if PQ is undefined; and the (T,) PQ of each.
    """
    rows = []
    for scene in scenes:
        _, pred, iou = scene.matches()
        iou_of_pred = np.zeros(len(scene.labels))
        iou_of_pred[pred] = iou
        sums = np.concatenate([[0], np.cumsum(iou_of_pred)])
        # scores fall, so the predictions above a threshold are the first ones
        counts = np.searchsorted(-scene.scores, -np.asarray(candidates), side='right')
        with np.errstate(invalid='ignore'):
            rows.append(2 * sums[counts] / (counts + len(scene.gt_labels)))
    quality = np.array([nanmean(column) for column in np.transpose(rows)])
    if np.isnan(quality).all():
        return 0.5, quality
    return float(candidates[np.flatnonzero(quality == np.nanmax(quality))[-1]]), quality


def aggregated_jaccard(scene: Scene) -> float:
    """AJI of one image, regardless of class. Kumar et al., IEEE Trans. Med. Imaging 36 (2017), algorithm 1.

    Each ground-truth cell takes the prediction of highest IoU, which several cells may share; unused predictions are
    added to the union. AJI is not symmetric.
    """
    if not len(scene.gt_labels) and not len(scene.labels):
        return float('nan')
    order = np.lexsort((scene.pair_pred, -scene.pair_iou, scene.pair_gt))
    best = order[np.unique(scene.pair_gt[order], return_index=True)[1]]
    intersection = scene.pair_area[best].sum()
    union = scene.gt_areas.sum() + scene.areas[scene.pair_pred[best]].sum() - intersection
    unused = np.setdiff1d(np.arange(len(scene.labels)), scene.pair_pred[best])
    return float(intersection / (union + scene.areas[unused].sum()))


def foreground_dice(scene: Scene) -> float:
    """Dice of one image, all cells as one: ``2 |A and B| / (|A| + |B|)``, A ground truth, B predictions."""
    total = scene.gt_foreground + scene.areas.sum()
    return float(2 * scene.hits.sum() / total) if total else float('nan')


def pair_centroids(scene: Scene, radius: float) -> tuple:
    """One-to-one pairs of ground truth and predictions with near centroids, regardless of class.

    The pairs have the least total distance; those farther apart than the radius are then removed: HoVer-Net's pairing
    (Graham et al., Medical Image Analysis 58 (2019) 101563).

    Args:
        scene (Scene): One image.
        radius (float): Largest distance in px; HoVer-Net takes 12 at 40x.

    Returns:
        tuple: (M,) indices of ground truth, and (M,) of predictions.
    """
    distance = cdist(scene.gt_centroids, scene.centroids)
    gt, pred = linear_sum_assignment(distance)
    near = distance[gt, pred] <= radius
    return gt[near], pred[near]


def detection_f1(scenes: list, num_classes: int, radius: float) -> tuple:
    """F1 by centroids, pooled over the images: HoVer-Net's F_d, and F_c of each class.

    ``F_d = 2 TP / (2 TP + FP + FN)``. For class c, TP are the pairs of class c in both, FP and FN those of class c in
    one: ``F_c = 2 TP / (2 TP + 2 FP + 2 FN + unpaired predictions of c + unpaired ground truth of c)``.

    Returns:
        tuple: float, and (C,) float64.
    """
    pairs, cells = 0, 0
    both, wrong, unpaired = np.zeros(num_classes), np.zeros(num_classes), np.zeros(num_classes)
    for scene in scenes:
        gt, pred = pair_centroids(scene, radius)
        pairs += len(gt)
        gt_labels, labels = scene.gt_labels[gt], scene.labels[pred]
        equal = gt_labels == labels
        both += np.bincount(labels[equal], minlength=num_classes)
        for values in (gt_labels[~equal], labels[~equal]):
            wrong += np.bincount(values, minlength=num_classes)
        for values, taken in ((scene.gt_labels, gt), (scene.labels, pred)):
            unpaired += np.bincount(np.delete(values, taken), minlength=num_classes)
        cells += len(scene.labels) + len(scene.gt_labels)
    with np.errstate(invalid='ignore'):
        by_class = 2 * both / (2 * both + 2 * wrong + unpaired)
    return (2 * pairs / cells if cells else float('nan')), by_class


def nanmean(values: np.ndarray) -> float:
    """The mean of the values that are not nan; nan without any, where numpy's function would warn."""
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float('nan')
