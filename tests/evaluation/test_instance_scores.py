"""Scores against closed forms, brute force and independent packages: torchmetrics' PanopticQuality (Kirillov et al.,
CVPR 2019, pooled by class) and cellseg-metrics' aggregated_jaccard_index and panoptic_quality (of one image)."""

import itertools
import math

import cellseg_metrics
import numpy as np
import pytest
import torch
from random_results import annotation, disc, draw_cells, encode, make_ground_truth
from torchmetrics.detection import PanopticQuality

from cellseg_mm.evaluation import (
    aggregated_jaccard,
    best_score_threshold,
    detection_f1,
    foreground_dice,
    make_scene,
    make_scenes,
    monusac_pq,
    panoptic_counts,
)
from cellseg_mm.evaluation.metrics import instance_metrics
from cellseg_mm.structures import encode_instances

NUM_CLASSES = 3


def scene_of_maps(cells, labels, found, found_labels, scores=None, ignored=None):
    """A scene of two id maps 1..N."""
    count, found_count = len(labels), len(found_labels)
    scores = np.linspace(1, 0.5, found_count) if scores is None else scores
    ignored = np.zeros(count, bool) if ignored is None else ignored
    codes = encode_instances(cells, count), encode_instances(found, found_count)
    return make_scene(cells.shape, codes[0], labels, ignored, codes[1], found_labels, scores)


def random_maps(seed, shape=(120, 150), num_cells=40):
    """Ground truth, and a prediction: cells shifted, dropped, added and of another class."""
    rng = np.random.default_rng(seed)
    cells, centers, radii = draw_cells(rng, shape, num_cells)
    found = np.zeros(shape, np.int32)
    for number, (center, radius) in enumerate(zip(centers, radii, strict=True), start=1):
        if rng.random() < 0.85:
            moved = disc(shape, center + rng.normal(0, 1, 2), radius * rng.uniform(0.85, 1.15)) > 0
            found[moved & (found == 0)] = number
    for number in range(len(radii) + 1, len(radii) + 8):
        extra = disc(shape, rng.uniform(0, shape[::-1]), rng.uniform(3, 8)) > 0
        found[extra & (found == 0)] = number
    _, found = np.unique(found, return_inverse=True)
    found = found.reshape(shape).astype(np.int32)
    labels = rng.integers(0, NUM_CLASSES, len(radii))
    return cells, labels, found, rng.integers(0, NUM_CLASSES, found.max())


@pytest.fixture(scope='module')
def random_set():
    maps = [random_maps(seed) for seed in range(6)]
    return maps, [scene_of_maps(*entry) for entry in maps]


@pytest.mark.parametrize('shift', [4, 10, 12, 13, 20, 30])
def test_shifted_discs(shift):
    """Two discs of radius r, d apart, share 2 r^2 acos(d / 2r) - d / 2 sqrt(4 r^2 - d^2)."""
    radius, shape = 40, (120, 160)
    scene = scene_of_maps(disc(shape, (60, 60), radius), [0], disc(shape, (60 + shift, 60), radius), [0])
    lens = 2 * radius**2 * math.acos(shift / (2 * radius)) - shift / 2 * math.sqrt(4 * radius**2 - shift**2)
    iou = lens / (2 * math.pi * radius**2 - lens)
    assert aggregated_jaccard(scene) == pytest.approx(iou, abs=0.01)
    assert foreground_dice(scene) == pytest.approx(lens / (math.pi * radius**2), abs=0.01)
    pq, dq, sq = panoptic_counts([scene]).quality()
    assert dq[0] == (iou > 0.5) and pq[0] == pytest.approx(iou if iou > 0.5 else 0, abs=0.01)
    assert sq[0] == pq[0]  # 0 without a match
    assert detection_f1([scene], 1, radius=12)[0] == (shift <= 12)


def test_panoptic_quality_equals_torchmetrics(random_set):
    maps, scenes = random_set
    metric = PanopticQuality(things=set(range(NUM_CLASSES)), stuffs={99}, return_sq_and_rq=True, return_per_class=True)
    for cells, labels, found, found_labels in maps:
        colored = []
        for id_map, of_class in ((cells, labels), (found, found_labels)):
            classes = np.append(99, of_class)[id_map]
            colored.append(torch.from_numpy(np.stack([classes, np.where(id_map > 0, id_map, 0)], axis=-1))[None])
        metric.update(colored[1], colored[0])
    counts = panoptic_counts(scenes, NUM_CLASSES).pooled()
    hits, spurious, missed = (
        getattr(metric, name)[:NUM_CLASSES].numpy() for name in ('true_positives', 'false_positives', 'false_negatives')
    )
    np.testing.assert_array_equal(
        [counts.matched, counts.predicted, counts.actual], [hits, hits + spurious, hits + missed]
    )
    pq, dq, sq = counts.quality()
    assert (pq > 0.1).all() and (pq < 0.9).all()
    # IoU and quotients are float32 there
    np.testing.assert_allclose(np.stack([pq, sq, dq], axis=1), metric.compute()[:NUM_CLASSES], rtol=0, atol=1e-7)


def test_one_image_equals_cellseg_metrics(random_set):
    """Regardless of class, and of each class: its cells alone."""
    for (cells, labels, found, found_labels), scene in zip(*random_set, strict=True):
        expected = [cellseg_metrics.panoptic_quality(cells, found, eps=1e-300)]
        for label in range(NUM_CLASSES):
            only = [
                np.where(np.append(-1, of)[ids] == label, ids, 0)
                for ids, of in ((cells, labels), (found, found_labels))
            ]
            expected.append(cellseg_metrics.panoptic_quality(*only, eps=1e-300))
        counts = panoptic_counts([scene]), panoptic_counts([scene], NUM_CLASSES)
        ours = np.concatenate([np.reshape(count.quality(), (3, -1)) for count in counts], axis=1)
        theirs = [[entry[key] for entry in expected] for key in ('pq', 'dq', 'sq')]
        np.testing.assert_allclose(np.nan_to_num(ours), theirs, rtol=0, atol=1e-9)


def same_choice(scene):
    """Whether each cell's largest intersection is one prediction's, and the one of the largest IoU."""
    for cell in range(len(scene.gt_labels)):
        areas, iou = scene.pair_area[scene.pair_gt == cell], scene.pair_iou[scene.pair_gt == cell]
        if len(areas) and ((areas == areas.max()).sum() > 1 or iou.argmax() != areas.argmax()):
            return False
    return True


def test_aji_equals_cellseg_metrics():
    """That package takes the largest intersection, the algorithm's text the largest IoU: where these agree."""
    compared = 0
    for seed in range(40):
        cells, labels, found, found_labels = random_maps(seed, num_cells=25)
        scene = scene_of_maps(cells, labels, found, found_labels)
        if same_choice(scene):
            expected = cellseg_metrics.aggregated_jaccard_index(cells, found, eps=1e-300)
            assert aggregated_jaccard(scene) == pytest.approx(expected, abs=1e-9)
            compared += 1
    assert compared > 10


def test_aji_takes_the_largest_iou_and_not_the_largest_intersection():
    """A cell of 10 px: 6 of them in a prediction of 60 px, 4 in one of 4: IoU 6 / 64 and 4 / 10."""
    cells, found = np.zeros((2, 10, 20), np.int32)
    cells[0, :10] = 1
    found[0, :6] = found[1:, :6] = 1
    found[0, 6:10] = 2
    scene = scene_of_maps(cells, [0], found, [0, 0])
    assert aggregated_jaccard(scene) == 4 / (10 + (found == 1).sum())


def brute_force_pairs(scene, radius):
    """The pairing of least total distance, by trying all."""
    distance = np.linalg.norm(scene.gt_centroids[:, None] - scene.centroids[None], axis=2)
    if distance.shape[0] > distance.shape[1]:
        distance = distance.T
        swap = True
    else:
        swap = False
    rows = range(distance.shape[0])
    best = min(
        itertools.permutations(range(distance.shape[1]), distance.shape[0]),
        key=lambda cols: sum(distance[row, col] for row, col in zip(rows, cols, strict=True)),
    )
    pairs = [(row, col) for row, col in zip(rows, best, strict=True) if distance[row, col] <= radius]
    return [pair[::-1] for pair in pairs] if swap else pairs


def test_f1_by_centroids_equals_brute_force():
    scenes = [scene_of_maps(*random_maps(seed, (60, 70), num_cells=4)) for seed in range(12)]
    pairs = unpaired = 0
    by_class = np.zeros((NUM_CLASSES, 4))  # both, wrong, unpaired predictions, unpaired cells
    for scene in scenes:
        found = brute_force_pairs(scene, radius=4)
        pairs += len(found)
        unpaired += len(scene.gt_labels) + len(scene.labels) - 2 * len(found)
        for cell, prediction in found:
            actual, predicted = scene.gt_labels[cell], scene.labels[prediction]
            if actual == predicted:
                by_class[actual, 0] += 1
            else:
                by_class[actual, 1] += 1
                by_class[predicted, 1] += 1
        for index, label in enumerate(scene.labels):
            by_class[label, 2] += index not in [pair[1] for pair in found]
        for index, label in enumerate(scene.gt_labels):
            by_class[label, 3] += index not in [pair[0] for pair in found]
    both, wrong, spurious, missed = by_class.T
    f1, class_f1 = detection_f1(scenes, NUM_CLASSES, radius=4)
    assert f1 == pytest.approx(2 * pairs / (2 * pairs + unpaired), abs=1e-9)
    np.testing.assert_allclose(class_f1, 2 * both / (2 * both + 2 * wrong + spurious + missed), atol=1e-9)
    assert 0.3 < f1 < 0.9 and (class_f1 > 0).all()


def test_classes_count_apart():
    """Three cells found exactly, one as another class: PQ of the true class 2 / (2 + 0.5), of the other 0."""
    cells = np.zeros((20, 60), np.int32)
    for number in (1, 2, 3):
        cells[5:15, 20 * number - 15 : 20 * number - 5] = number
    scene = scene_of_maps(cells, [0, 0, 0], cells, [0, 0, 1])
    assert panoptic_counts([scene]).quality()[0] == [1.0]
    pq = panoptic_counts([scene], 3).pooled().quality()[0]
    assert list(pq[:2]) == [2 / 2.5, 0.0] and np.isnan(pq[2])
    # the other class has no cell in the image, so MoNuSAC's protocol never sees its wrong prediction
    assert monusac_pq(panoptic_counts([scene], 3)) == 2 / 2.5


def test_pooling_weighs_cells_and_averaging_images():
    shape = (20, 100)
    many = np.zeros(shape, np.int32)
    for number in range(1, 5):
        many[5:15, 20 * number - 15 : 20 * number - 5] = number
    one = np.where(many == 1, 1, 0)
    full = scene_of_maps(many, [0] * 4, many, [0] * 4)
    empty = scene_of_maps(one, [0], np.zeros(shape, np.int32), [])
    counts = panoptic_counts([full, empty], 1)
    assert counts.pooled().quality()[0] == [4 / 4.5]
    assert counts.quality()[0].mean() == 0.5


def test_scores_of_nothing_are_undefined():
    blank = np.zeros((5, 5), np.int32)
    scene = scene_of_maps(blank, [], blank, [])
    values = [*np.concatenate(panoptic_counts([scene]).quality()), aggregated_jaccard(scene), foreground_dice(scene)]
    assert np.isnan([*values, detection_f1([scene], 1, 12)[0]]).all()


def test_nothing_found_is_zero():
    cells, blank = disc((30, 30), (15, 15), 6).astype(np.int32), np.zeros((30, 30), np.int32)
    for scene in (scene_of_maps(cells, [0], blank, []), scene_of_maps(blank, [], cells, [0])):
        assert panoptic_counts([scene]).quality()[0] == [0.0]
        assert aggregated_jaccard(scene) == foreground_dice(scene) == detection_f1([scene], 1, 12)[0] == 0.0


def test_best_threshold_keeps_the_good_and_drops_the_bad():
    """Four exact cells at scores from 0.6 on, spurious ones below 0.35: any threshold between is best, the highest
    candidate is taken; and each candidate's PQ is that of the scene cut there."""
    cells = np.zeros((20, 200), np.int32)
    for number in range(1, 9):
        cells[5:15, 20 * number - 15 : 20 * number - 5] = number
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.34, 0.3, 0.2, 0.1])
    scene = scene_of_maps(np.where(cells <= 4, cells, 0), [0] * 4, cells, [0] * 8, scores)
    candidates = np.arange(1, 20) / 20
    threshold, quality = best_score_threshold([scene], candidates)
    assert threshold == 0.6
    expected = [panoptic_counts([scene.above(candidate)]).quality()[0][0] for candidate in candidates]
    np.testing.assert_allclose(quality, expected, atol=1e-12)


def test_thresholds_of_random_scenes(random_set):
    _, scenes = random_set
    candidates = np.arange(10, 21) / 20
    quality = best_score_threshold(scenes, candidates)[1]
    expected = [np.mean(panoptic_counts([s.above(c) for s in scenes]).quality()[0]) for c in candidates]
    np.testing.assert_allclose(quality, expected, atol=1e-12)


def test_cutting_equals_scoring_fewer_predictions():
    """A scene cut at a score is the scene of the predictions above it, although predictions overlap."""
    rng = np.random.default_rng(3)
    cells, centers, radii = draw_cells(rng, (100, 100), 25)
    codes = encode_instances(cells, len(centers))
    shapes = [
        disc((100, 100), center + rng.normal(0, 3, 2), radius + 2)
        for center, radius in zip(centers, radii, strict=True)
    ]
    found, scores = [encode(shape) for shape in shapes], rng.random(len(shapes)).round(1)
    labels, ignored = np.zeros(len(codes), int), np.zeros(len(codes), bool)

    def scene(kept):
        picked = [found[index] for index in np.flatnonzero(kept)]
        return make_scene((100, 100), codes, labels, ignored, picked, labels[: kept.sum()], scores[kept])

    whole, part = scene(scores >= 0).above(0.5), scene(scores >= 0.5)
    for name, value in vars(part).items():
        np.testing.assert_allclose(getattr(whole, name), value, err_msg=name)


def test_ignored_regions():
    """What lies in an ignored region is neither found nor spurious; what matches a cell beside it counts."""
    shape = (40, 80)
    cell, region, spurious = (np.zeros(shape, np.uint8) for _ in range(3))
    cell[5:15, 5:15] = 1
    region[:, 40:] = 1
    spurious[20:30, 50:60] = 1
    annotations = [annotation(1, 0, encode(cell)), annotation(1, 0, encode(region), iscrowd=1)]
    results = [annotation(1, 0, encode(cell), score=0.9), annotation(1, 0, encode(spurious), score=0.8)]
    ground_truth = make_ground_truth(shape, annotations)
    scene = make_scenes(ground_truth, results)[0]
    assert len(scene.gt_labels) == len(scene.labels) == 1
    assert panoptic_counts([scene]).quality()[0] == [1.0]
    assert aggregated_jaccard(scene) == foreground_dice(scene) == detection_f1([scene], 1, 12)[0] == 1.0
    # a cell within the region is found, although its prediction lies in what is ignored
    inside = [*annotations, annotation(1, 0, encode(spurious))]
    scene = make_scenes(make_ground_truth(shape, inside), results)[0]
    assert panoptic_counts([scene]).quality()[0] == [1.0] and len(scene.labels) == 2
    strict = make_ground_truth(shape, annotations[:1])
    assert panoptic_counts(make_scenes(strict, results)).quality()[0] == [1 / 1.5]


def test_ignored_pixels_leave_the_union():
    """A prediction of 21 px on a cell of 10, the rest ignored: PQ is 1, as panopticapi gives it."""
    shape = (10, 30)
    cell, found = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    cell[2, :10] = 1
    found[2, :21] = 1
    annotations = [annotation(1, 0, encode(cell)), annotation(1, 0, encode(1 - cell), iscrowd=1)]
    scene = make_scenes(make_ground_truth(shape, annotations), [annotation(1, 0, encode(found), score=0.9)])[0]
    assert [value[0] for value in panoptic_counts([scene]).quality()] == [1, 1, 1]
    assert aggregated_jaccard(scene) == foreground_dice(scene) == 1.0


def panoptic_api(cells, found, ignored):
    """(iou_sum, tp, fp, fn) of one class by the rules of panopticapi's evaluation.py, prediction by prediction; void
    is what is ignored and no cell."""
    void = ignored & (cells == 0)
    ids, found_ids = (np.unique(ids)[1:] for ids in (np.append(0, cells), np.append(0, found)))
    matched = {}
    for one in ids:
        for other in found_ids:
            own, prediction = cells == one, found == other
            both = (own & prediction).sum()
            iou = both / (own.sum() + prediction.sum() - both - (void & prediction).sum())
            if iou > 0.5:
                matched[other] = iou
    spurious = [other for other in found_ids if other not in matched]
    spurious = [other for other in spurious if (void & (found == other)).sum() / (found == other).sum() <= 0.5]
    return sum(matched.values()), len(matched), len(spurious), len(ids) - len(matched)


def test_ignored_regions_equal_the_panoptic_api():
    """Regions over a part of cells and of predictions."""
    left_out = 0
    for seed in range(8):
        cells, labels, found, found_labels = random_maps(seed)
        ignored = np.zeros(cells.shape, bool)
        for x, y in np.random.default_rng(seed).uniform(0, (150, 120), (12, 2)):
            ignored |= disc(cells.shape, (x, y), 14) > 0
        codes = [*encode_instances(cells, len(labels)), encode(ignored)]
        found_codes = encode_instances(found, len(found_labels))
        is_region, scores = np.arange(len(codes)) == len(labels), np.linspace(1, 0.5, len(found_labels))
        scene = make_scene(cells.shape, codes, [*labels, 0], is_region, found_codes, found_labels, scores)
        iou_sum, matched, spurious, missed = panoptic_api(cells, found, ignored)
        counts = panoptic_counts([scene])
        assert (counts.matched, counts.predicted, counts.actual) == (matched, matched + spurious, matched + missed)
        assert counts.iou_sum[0] == pytest.approx(iou_sum, abs=1e-9)
        left_out += len(found_labels) - matched - spurious
    assert left_out > 5


def monusac_script(cells, labels, found, found_labels):
    """PQ of each class that the image has, by the protocol of MoNuSAC's script, pixel by pixel."""
    values = []
    for label in np.unique(labels):
        own, own_found = (np.flatnonzero(of == label) + 1 for of in (labels, found_labels))
        iou = np.zeros((len(own), len(own_found)))
        for row, column in np.ndindex(iou.shape):
            one, other = cells == own[row], found == own_found[column]
            iou[row, column] = (one & other).sum() / (one | other).sum()
        matched = iou[iou > 0.5]
        values.append(matched.sum() / (len(own) / 2 + len(own_found) / 2))
    return values


def test_monusac_pq_equals_its_script(random_set):
    maps, scenes = random_set
    expected = np.concatenate([monusac_script(*entry) for entry in maps])
    assert monusac_pq(panoptic_counts(scenes, NUM_CLASSES)) == pytest.approx(expected.mean(), abs=1e-12)


def test_segmentation_quality_of_images_without_a_match_is_zero():
    """As in HoVer-Net's get_fast_pq: the mean of an exact image and one of misses is 0.5; a blank image has none."""
    shape = (40, 40)
    cell, blank = disc(shape, (15, 15), 6).astype(np.int32), np.zeros(shape, np.int32)
    elsewhere = disc(shape, (30, 30), 6).astype(np.int32)
    scenes = [scene_of_maps(cell, [0], found, [0]) for found in (cell, elsewhere)]
    scenes.append(scene_of_maps(blank, [], blank, []))
    pq, dq, sq = panoptic_counts(scenes).quality()
    np.testing.assert_array_equal(sq, [1, 0, np.nan])
    np.testing.assert_array_equal(pq, dq * sq)
    metrics = instance_metrics(scenes, ['cell'], 0.5)
    assert metrics['SQ'] == metrics['DQ'] == 0.5 and metrics['SQ_cell'] == 1


def test_masks_without_a_pixel_are_left_out():
    cell, blank = encode(disc((30, 30), (15, 15), 6)), encode(np.zeros((30, 30)))
    ground_truth = make_ground_truth((30, 30), [annotation(1, 0, code) for code in (blank, cell)])
    results = [annotation(1, 0, code, score=score) for code, score in ((blank, 1.0), (cell, 0.5))]
    scene = make_scenes(ground_truth, results)[0]
    assert len(scene.gt_labels) == len(scene.labels) == 1
    assert panoptic_counts([scene]).quality()[0] == [detection_f1([scene], 1, 12)[0]] == [1.0]


def test_overlapping_ground_truth_matches_one_to_one():
    shape = (30, 30)
    large, inner = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    large[5:15, 5:15] = 1
    inner[5:15, 5:13] = 1
    ground_truth = make_ground_truth(shape, [annotation(1, 0, encode(mask)) for mask in (large, inner)])
    scene = make_scenes(ground_truth, [annotation(1, 0, encode(large), score=1.0)])[0]
    gt, pred, iou = scene.matches()
    assert (list(gt), list(pred), list(iou)) == ([0], [0], [1.0])


def test_a_broken_code_names_its_image():
    cell = encode(disc((30, 30), (15, 15), 6))
    ground_truth = make_ground_truth((30, 30), [annotation(1, 0, cell)])
    broken = annotation(1, 0, cell, score=1.0) | dict(segmentation=dict(size=[30, 30], counts='!'))
    with pytest.raises(ValueError, match='image 1: code 0: a character'):
        make_scenes(ground_truth, [broken])
    turned = annotation(1, 0, encode(np.ones((20, 45), np.uint8)), score=1.0)  # as many px
    with pytest.raises(ValueError, match=r'image 1: mask 1: of \[20, 45\] px in an image of \[30, 30\]'):
        make_scenes(ground_truth, [turned])
