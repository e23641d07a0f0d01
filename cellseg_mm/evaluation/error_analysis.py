"""The errors of predictions: confused classes, missed and spurious cells, merges and splits.

The functions take :class:`Scene` s of the predictions above a score threshold (:meth:`Scene.above`). A prediction
matches a ground-truth cell at a mask IoU above 0.5, whatever the classes (:meth:`Scene.matches`). The area of a
prediction is what is visible of it in the id map, so a second prediction of the same cell with a lower score drops out.
"""

from collections import defaultdict

import numpy as np

from cellseg_mm.structures import decode_runs, encode_instances, paint_instances, to_code
from cellseg_mm.utils import markdown_table

from .average_precision import average_precision
from .instance_scores import panoptic_counts
from .scene import Scene, make_scene

# Detections for each image and class, in curves and AP50.
MAX_DETS = 1000
CORRECT, WRONG_CLASS, MISSED, SPURIOUS = 'correct', 'wrong class', 'missed', 'spurious'
MERGED, SPLIT = 'merged', 'split'


def confusion_matrix(scenes: list, num_classes: int) -> np.ndarray:
    """How often a cell of one class is predicted as another.

    Args:
        scenes (list[Scene]): One scene for each image.
        num_classes (int): C.

    Returns:
        ndarray: (C + 1, C + 1) int64. Rows are ground truth, columns predictions; the last column counts missed cells,
        the last row spurious predictions, and the corner is 0.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for scene in scenes:
        gt, pred, _ = scene.matches()
        found_as, is_spurious = np.full(len(scene.gt_labels), num_classes), np.ones(len(scene.labels), bool)
        found_as[gt], is_spurious[pred] = scene.labels[pred], False
        np.add.at(matrix, (scene.gt_labels, found_as), 1)
        np.add.at(matrix[num_classes], scene.labels[is_spurious], 1)
    return matrix


def merge_pairs(scene: Scene) -> np.ndarray:
    """The pairs of merges: a prediction that holds more than half of the area of each of two or more cells.

    A merge counts whether or not the prediction matches one of the cells.

    Returns:
        ndarray: (K,) bool over the scene's overlapping pairs.
    """
    holds = 2 * scene.pair_area > scene.gt_areas[scene.pair_gt]
    held = np.bincount(scene.pair_pred[holds], minlength=len(scene.labels))
    return holds & (held[scene.pair_pred] > 1)


def split_pairs(scene: Scene) -> np.ndarray:
    """The pairs of splits: a cell that holds more than half of the area of each of two or more predictions.

    Returns:
        ndarray: (K,) bool over the scene's overlapping pairs.
    """
    holds = 2 * scene.pair_area > scene.areas[scene.pair_pred]
    held = np.bincount(scene.pair_gt[holds], minlength=len(scene.gt_labels))
    return holds & (held[scene.pair_gt] > 1)


def merges_and_splits(scene: Scene, num_classes: int) -> tuple:
    """Counts of merges by the class of the prediction, and of splits by the class of the ground-truth cell.

    Returns:
        tuple: Two (C,) int64.
    """
    merging = scene.labels[np.unique(scene.pair_pred[merge_pairs(scene)])]
    split = scene.gt_labels[np.unique(scene.pair_gt[split_pairs(scene)])]
    return np.bincount(merging, minlength=num_classes), np.bincount(split, minlength=num_classes)


def error_kinds(scene: Scene) -> tuple:
    """The kind of error by which each cell is drawn: merged before split, and both before the outcome of matching.

    Returns:
        tuple: (G,) of ground truth and (P,) of predictions, arrays of str: :data:`CORRECT`, :data:`WRONG_CLASS`,
        :data:`MISSED`, :data:`SPURIOUS`, :data:`MERGED`, :data:`SPLIT`.
    """
    gt, pred, _ = scene.matches()
    gt_kinds, kinds = np.full(len(scene.gt_labels), MISSED, object), np.full(len(scene.labels), SPURIOUS, object)
    gt_kinds[gt] = kinds[pred] = np.where(scene.gt_labels[gt] == scene.labels[pred], CORRECT, WRONG_CLASS)
    for pairs, kind in ((split_pairs(scene), SPLIT), (merge_pairs(scene), MERGED)):
        gt_kinds[scene.pair_gt[pairs]] = kind
        kinds[scene.pair_pred[pairs]] = kind
    return gt_kinds, kinds


def analyze_errors(ground_truth: dict, results: list, scenes: list, score_thr: float) -> dict:
    """All counts of a set of images, ready for JSON. Undefined values are None.

    Args:
        ground_truth (dict): COCO content: images, annotations, categories.
        results (list[dict]): COCO results with segmentation (compressed run-length code).
        scenes (list[Scene]): The scenes of both, see :func:`make_scenes`.
        score_thr (float): Score threshold, 0..1. It applies to all but ``AP50`` and ``precision_at_recall``.

    Returns:
        dict: ``score_thr`` and ``classes``; ``confusion_matrix``, see :func:`confusion_matrix`; ``by_class``, for each
        class a dict of ``name``, ``ground_truth``, ``predicted``, ``correct``, ``wrong_class`` (its ground truth found
        as another class), ``missed``, ``spurious``, ``merges``, ``splits``, ``recall`` and ``precision`` of finding it
        as itself, and ``AP50``; ``total``, the same over all classes; ``images``, for each image ``name``,
        class-agnostic ``pq`` and the same counts; ``precision_at_recall``, for each class 101 values at recall 0, 0.01,
        ..., 1.
    """
    classes = [entry['name'] for entry in ground_truth['categories']]
    precision = average_precision(ground_truth, results, 'segm', (MAX_DETS,))
    scenes = [scene.above(score_thr) for scene in scenes]
    num_classes = len(classes)
    matrices = np.array([confusion_matrix([scene], num_classes) for scene in scenes])  # (I, C + 1, C + 1)
    torn = np.array([merges_and_splits(scene, num_classes) for scene in scenes])  # (I, 2, C)
    matrix, every = matrices.sum(axis=0), slice(num_classes)
    by_class = []
    for label, name in enumerate(classes):
        counts = _counts(matrix, slice(label, label + 1), *torn[:, :, label].sum(axis=0))
        by_class.append(dict(name=name, **counts, AP50=_defined(precision.mean(MAX_DETS, 0.5, label))))
    pq, _, _ = panoptic_counts(scenes).quality()
    images = [
        dict(name=image['file_name'], pq=_defined(pq[i]), **_counts(matrices[i], every, *torn[i].sum(axis=1)))
        for i, image in enumerate(ground_truth['images'])
    ]
    curves = precision.precision[0, :, :, precision.bands.index('all'), 0].T  # of IoU 0.5
    return dict(
        score_thr=score_thr,
        classes=classes,
        confusion_matrix=matrix.tolist(),
        by_class=by_class,
        total=dict(_counts(matrix, every, *torn.sum(axis=(0, 2))), AP50=_defined(precision.mean(MAX_DETS, 0.5))),
        images=images,
        precision_at_recall=[curve.tolist() if curve[0] > -1 else None for curve in curves],
    )


def _counts(matrix: np.ndarray, chosen: slice, merges: int, splits: int) -> dict:
    """Counts of the chosen classes, from the confusion matrix of all."""
    rows, columns, correct = matrix[chosen], matrix[:, chosen], np.trace(matrix[chosen, chosen])
    actual, predicted, missed = rows.sum(), columns.sum(), rows[:, -1].sum()
    counts = dict(
        ground_truth=actual,
        predicted=predicted,
        correct=correct,
        wrong_class=actual - missed - correct,
        missed=missed,
        spurious=columns[-1].sum(),
        merges=merges,
        splits=splits,
    )
    counts = {key: int(value) for key, value in counts.items()}
    return dict(
        counts,
        recall=float(correct / actual) if actual else None,
        precision=float(correct / predicted) if predicted else None,
    )


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def worst_images(report: dict, count: int) -> list:
    """Indices of the images of lowest class-agnostic PQ, the lowest first; images without any cell are left out."""
    quality = [(image['pq'], index) for index, image in enumerate(report['images']) if image['pq'] is not None]
    return [index for _, index in sorted(quality)[:count]]


def errors_markdown(report: dict, count: int) -> str:
    """The report of :func:`analyze_errors` as tables: counts by class, confusion matrix, worst images.

    Args:
        report (dict): From :func:`analyze_errors`.
        count (int): Number of worst images.
    """
    classes = report['classes']
    columns = list(report['by_class'][0])[1:]
    rows = [list(entry.values()) for entry in [*report['by_class'], dict(name='all', **report['total'])]]
    matrix = [[name, *counts] for name, counts in zip([*classes, SPURIOUS], report['confusion_matrix'], strict=True)]
    image_columns = list(report['images'][0])
    worst = [list(report['images'][index].values()) for index in worst_images(report, count)]
    return '\n\n'.join(
        [
            '# Errors',
            f'{len(report["images"])} images. Predictions of a score of at least {report["score_thr"]} are matched to '
            'ground truth at a mask IoU above 0.5, whatever the classes. AP50 takes all scores, up to '
            f'{MAX_DETS:,} detections an image and class.',
            '## By class',
            markdown_table(['class', *map(_title, columns)], rows),
            'wrong class: cells of the class that are found as another. merges: predictions of the class that hold '
            'more than half of the area of each of two or more cells. splits: cells of the class that hold more than '
            'half of the area of each of two or more predictions. In the pictures a merged or split cell has that '
            'colour, whatever it matches.',
            '## Confusion matrix',
            'Rows are ground truth, columns predictions.',
            markdown_table(['', *classes, MISSED], matrix),
            '## Worst images',
            'By class-agnostic PQ; errors.json has all images.',
            markdown_table([*map(_title, image_columns)], worst),
        ]
    )


def _title(key: str) -> str:
    return dict(name='image', pq='PQ').get(key, key.replace('_', ' '))


def group_by_image(ground_truth: dict, results: list) -> list:
    """Each image with its own annotations and results, in the order of the annotations' images.

    Args:
        ground_truth (dict): COCO content: images, annotations, categories.
        results (list[dict]): COCO results.

    Returns:
        list[tuple]: COCO content of the one image, and its results.

    Raises:
        ValueError: If the annotations lack a result's image, class or image size, or a mask is not a compressed
            run-length code; with the index of the result.
    """
    sizes = {image['id']: [image['height'], image['width']] for image in ground_truth['images']}
    categories = {entry['id'] for entry in ground_truth['categories']}
    cells, found = defaultdict(list), defaultdict(list)
    for entry in ground_truth['annotations']:
        cells[entry['image_id']].append(entry)
    for index, entry in enumerate(results):
        image_id, code = entry['image_id'], entry['segmentation']
        if image_id not in sizes:
            raise ValueError(f'result {index}: the annotations have no image_id {image_id}')
        if entry['category_id'] not in categories:
            raise ValueError(f'result {index}: the annotations have no category_id {entry["category_id"]}')
        if not isinstance(code, dict) or not isinstance(code.get('counts'), str):
            raise ValueError(f'result {index}: its segmentation is not a compressed run-length code')
        if code.get('size') != sizes[image_id]:
            raise ValueError(f'result {index}: its mask has size {code.get("size")}, but its image {sizes[image_id]}')
        found[image_id].append(entry)
    return [
        (dict(ground_truth, images=[image], annotations=cells[image['id']]), found[image['id']])
        for image in ground_truth['images']
    ]


def scene_codes(ground_truth: dict, results: list) -> tuple:
    """The masks of the cells of a :class:`Scene` from :func:`make_scenes`, in its order.

    Args:
        ground_truth (dict): COCO content of one image, from :func:`group_by_image`.
        results (list[dict]): Its results.

    Returns:
        tuple: G run-length codes of ground truth, and P of the visible part of each prediction.
    """
    image, cells = ground_truth['images'][0], ground_truth['annotations']
    size = image['height'], image['width']
    results = sorted(results, key=lambda entry: -entry['score'])
    codes = [entry['segmentation'] for entry in results]
    gt_codes = [to_code(entry['segmentation'], *size) for entry in cells]
    # a scene leaves cells out; indices in place of class labels show which it keeps
    scene = make_scene(
        size,
        gt_codes,
        np.arange(len(gt_codes)),
        [bool(entry.get('iscrowd', 0)) for entry in cells],
        codes,
        np.arange(len(codes)),
        [entry['score'] for entry in results],
    )
    visible = encode_instances(paint_instances(decode_runs(codes), len(codes), *size), len(codes))
    return [gt_codes[index] for index in scene.gt_labels], [visible[index] for index in scene.labels]
