"""Ground truth and predictions of one image, reduced to what metrics need: which pairs overlap, and by how much.

Predictions are painted into one id map, the highest score on top (:func:`paint_instances`): as in a label image, each
pixel belongs to one cell at most. A lower score threshold then only adds cells, so one reduction serves all thresholds.

A pixel is ignored if an ignored region covers it and no ground-truth cell does. Ignored pixels do not count in the
areas of predictions, nor in any union, like void pixels in the panoptic API of COCO (``pq_compute_single_core`` of
``panopticapi/evaluation.py``).
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from cellseg_mm.structures import decode_runs, find_runs, paint_instances, to_code


@dataclass(frozen=True)
class Scene:
    """One image: G ground-truth cells, P predicted ones in the order of falling score, K pairs of the two that overlap.

    Names without ``gt_`` and ``pair_`` are of the predictions.

    Attributes:
        gt_labels: (G,) int64 class indices from 0 on.
        gt_areas: (G,) int64 px.
        gt_centroids: (G, 2) float64 (x, y) in px.
        labels: (P,) int64.
        scores: (P,) float64, falling.
        areas: (P,) int64 px: what is visible of each in the id map, without ignored pixels.
        centroids: (P, 2) float64.
        pair_gt: (K,) int64.
        pair_pred: (K,) int64.
        pair_area: (K,) int64 px of the intersection, at least 1.
        gt_foreground: px that any ground-truth cell covers.
        hits: (P,) int64 px of each prediction's area that any ground-truth cell covers.
    """

    gt_labels: np.ndarray
    gt_areas: np.ndarray
    gt_centroids: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    centroids: np.ndarray
    pair_gt: np.ndarray
    pair_pred: np.ndarray
    pair_area: np.ndarray
    gt_foreground: int
    hits: np.ndarray

    @property
    def pair_iou(self) -> np.ndarray:
        """(K,) float64 IoU of the pairs."""
        union = self.gt_areas[self.pair_gt] + self.areas[self.pair_pred] - self.pair_area
        return self.pair_area / union

    def above(self, score_thr: float) -> 'Scene':
        """Return the scene with only the predictions of at least this score."""
        return _select(self, np.ones(len(self.gt_labels), bool), self.scores >= score_thr)

    def matches(self) -> tuple:
        """Return the pairs with an IoU above 0.5, which makes them unique.

        Kirillov et al., Panoptic Segmentation, CVPR 2019, section 4.1. If ground truth overlaps itself, two of its
        cells may fit one prediction; the one of higher IoU gets it.

        Returns:
            tuple: (M,) indices of ground truth, (M,) of predictions, (M,) IoU.
        """
        iou = self.pair_iou
        order = np.flatnonzero(iou > 0.5)
        order = order[np.argsort(-iou[order], kind='stable')]
        order = order[np.sort(np.unique(self.pair_pred[order], return_index=True)[1])]
        return self.pair_gt[order], self.pair_pred[order], iou[order]


def make_scene(
    size: tuple,
    gt_codes: list,
    gt_labels: np.ndarray,
    gt_ignored: np.ndarray,
    codes: list,
    labels: np.ndarray,
    scores: np.ndarray,
) -> Scene:
    """Reduce an image to its :class:`Scene`.

    Cells and predictions without a pixel are left out, and so are predictions that are more than half ignored and match
    no cell, as in the panoptic API of COCO.

    Args:
        size (tuple[int]): (H, W) of the image in px.
        gt_codes (list[dict]): COCO run-length codes of the ground truth, which may overlap.
        gt_labels (ndarray): Class indices of the ground truth, from 0.
        gt_ignored (ndarray): bool; True for a region that is not scored (``iscrowd``).
        codes (list[dict]): COCO run-length codes of the predictions, which may overlap.
        labels (ndarray): Class indices of the predictions, from 0.
        scores (ndarray): Scores of the predictions, 0..1.

    Raises:
        ValueError: If a code is broken, see :func:`decode_runs`, or of another size.

    Examples:
        An image of 4x4 px. The cell covers the upper two rows, the prediction the second and third one:

        >>> cell, prediction = (to_code([[0, y, 4, y, 4, y + 2, 0, y + 2]], 4, 4) for y in (0, 1))
        >>> scene = make_scene((4, 4), [cell], [0], [False], [prediction], [0], [0.9])
        >>> scene.areas.tolist(), scene.pair_area.tolist(), scene.pair_iou.round(3).tolist()
        ([8], [4], [0.333])
        >>> scene.matches()[2].tolist()
        []
    """
    height, width = size
    for index, code in enumerate([*gt_codes, *codes]):
        if list(code['size']) != [height, width]:
            raise ValueError(f'mask {index}: of {code["size"]} px in an image of {[height, width]} (height, width)')
    gt_labels, gt_ignored = np.asarray(gt_labels, np.int64), np.asarray(gt_ignored, bool)
    order = np.argsort(-np.asarray(scores), kind='stable')
    labels, scores = np.asarray(labels, np.int64)[order], np.asarray(scores, np.float64)[order]
    id_map = paint_instances(decode_runs([codes[index] for index in order]), len(order), height, width)
    runs, gt_runs = find_runs(id_map), decode_runs(gt_codes)
    visible, gt_areas = runs.areas(len(order)), gt_runs.areas(len(gt_codes))
    places, gt_places = runs.places(), gt_runs.places()
    owners, gt_owners = (np.repeat(each.owner, each.length) for each in (runs, gt_runs))
    pair_gt, pair_pred, pair_area = _count_pairs(gt_owners, id_map.T.ravel()[gt_places] - 1, len(order))

    of_region, (is_cell, is_ignored) = gt_ignored[gt_owners], np.zeros((2, height * width), bool)
    is_cell[gt_places[~of_region]] = True
    is_ignored[gt_places[of_region]] = True
    areas = np.bincount(owners[is_cell[places] | ~is_ignored[places]], minlength=len(order))

    scene = Scene(
        gt_labels=gt_labels,
        gt_areas=gt_areas,
        gt_centroids=gt_runs.centroids(len(gt_codes), height),
        labels=labels,
        scores=scores,
        areas=areas,
        centroids=runs.centroids(len(order), height),
        pair_gt=pair_gt,
        pair_pred=pair_pred,
        pair_area=pair_area,
        gt_foreground=int(np.count_nonzero(is_cell)),
        hits=np.bincount(owners[is_cell[places]], minlength=len(order)),
    )
    scene = _select(scene, ~gt_ignored & (gt_areas > 0), np.ones(len(order), bool))
    scored = 2 * areas >= visible  # at least half of it is not ignored
    scored[scene.matches()[1]] = True
    return _select(scene, np.ones(len(scene.gt_labels), bool), scored & (areas > 0))


def make_scenes(ground_truth: dict, results: list) -> list:
    """The :class:`Scene` of each image of COCO annotations, in their order.

    Args:
        ground_truth (dict): COCO content: images, annotations with segmentations of any kind, categories.
        results (list[dict]): COCO results: image_id, category_id, score and segmentation (compressed run-length code).

    Raises:
        ValueError: See :func:`make_scene`; with the id of the image.
    """
    label_of = {entry['id']: index for index, entry in enumerate(ground_truth['categories'])}
    cells, detections = defaultdict(list), defaultdict(list)
    for entry in ground_truth['annotations']:
        cells[entry['image_id']].append(entry)
    for entry in results:
        detections[entry['image_id']].append(entry)
    scenes = []
    for image in ground_truth['images']:
        size, gt, found = (image['height'], image['width']), cells[image['id']], detections[image['id']]
        try:
            scenes.append(
                make_scene(
                    size,
                    [to_code(entry['segmentation'], *size) for entry in gt],
                    [label_of[entry['category_id']] for entry in gt],
                    [bool(entry.get('iscrowd', 0)) for entry in gt],
                    [entry['segmentation'] for entry in found],
                    [label_of[entry['category_id']] for entry in found],
                    [entry['score'] for entry in found],
                )
            )
        except ValueError as error:
            raise ValueError(f'image {image["id"]}: {error}') from error
    return scenes


def _count_pairs(gt_owners: np.ndarray, pred_owners: np.ndarray, num_preds: int) -> tuple:
    """The pairs of cells and predictions that share pixels, and how many.

    Args:
        gt_owners (ndarray): (N,) int64 cell of each pixel of the ground truth.
        pred_owners (ndarray): (N,) int64 prediction at this pixel, -1 for the background.
        num_preds (int): Number of predictions.

    Returns:
        tuple: (K,) int64 cells, predictions and shared px.

    Examples:
        >>> _count_pairs(np.array([0, 0, 0, 1, 1]), np.array([-1, 2, 2, 2, 0]), 3)
        (array([0, 1, 1]), array([2, 0, 2]), array([2, 1, 1]))
    """
    hit = pred_owners >= 0
    keys = gt_owners[hit] * max(num_preds, 1) + pred_owners[hit]
    # equal keys mostly follow one another: they are counted in stretches first, so that few keys have to be sorted
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    stretches = np.diff(starts, append=len(keys))
    unique, index = np.unique(keys[starts], return_inverse=True)
    counts = np.bincount(index, stretches, len(unique)).astype(np.int64)
    return *np.divmod(unique, max(num_preds, 1)), counts


def _select(scene: Scene, gt: np.ndarray, pred: np.ndarray) -> Scene:
    """The scene with some cells and some predictions only, given as bool arrays; they are renumbered."""
    pairs = gt[scene.pair_gt] & pred[scene.pair_pred]
    return Scene(
        gt_labels=scene.gt_labels[gt],
        gt_areas=scene.gt_areas[gt],
        gt_centroids=scene.gt_centroids[gt],
        labels=scene.labels[pred],
        scores=scene.scores[pred],
        areas=scene.areas[pred],
        centroids=scene.centroids[pred],
        pair_gt=(np.cumsum(gt) - 1)[scene.pair_gt[pairs]],
        pair_pred=(np.cumsum(pred) - 1)[scene.pair_pred[pairs]],
        pair_area=scene.pair_area[pairs],
        gt_foreground=scene.gt_foreground,
        hits=scene.hits[pred],
    )
