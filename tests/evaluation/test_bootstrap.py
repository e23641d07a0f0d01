import json

import numpy as np
import pytest
from random_results import random_results

from cellseg_mm.evaluation import average_precision, evaluate
from cellseg_mm.evaluation.bootstrap import (
    Evidence,
    gather_evidence,
    match_detections,
    metric_intervals,
    paired_difference,
    resampled_metrics,
)


@pytest.fixture(scope='module', params=[0.0, 0.2], ids=['plain', 'ignored regions'])
def data(request):
    return random_results(11, num_images=4, num_cells=50, num_detections=110, crowd=request.param)


def test_all_images_once_give_the_runs_metrics(data):
    """The matching is ours, the metrics are COCO's."""
    ground_truth, results = data
    metrics = resampled_metrics(gather_evidence(ground_truth, results, score_thr=0.4), np.ones((1, 4)))
    expected = evaluate(ground_truth, results, score_thr=0.4)
    assert {name: values[0] for name, values in metrics.items()} == pytest.approx(
        {name: expected[name] for name in metrics}, abs=1e-9
    )


def test_drawing_an_image_twice_is_copying_it(data):
    ground_truth, results = data
    # scores apart from each other, for the order of equal ones is not defined
    results = [dict(entry, score=entry['score'] + 1e-6 * number) for number, entry in enumerate(results)]
    weights = [3, 0, 1, 0]
    images, annotations, copies = [], [], []
    for image, weight in zip(ground_truth['images'], weights, strict=True):
        for copy in range(weight):
            number = image['id'] + 100 * copy
            images.append(dict(image, id=number))
            own = [entry for entry in ground_truth['annotations'] if entry['image_id'] == image['id']]
            annotations += [dict(entry, image_id=number) for entry in own]
            copies += [dict(entry, image_id=number) for entry in results if entry['image_id'] == image['id']]
    annotations = [dict(entry, id=number) for number, entry in enumerate(annotations, start=1)]
    copied = dict(ground_truth, images=images, annotations=annotations)
    expected = evaluate(copied, copies, score_thr=0.4)
    metrics = resampled_metrics(gather_evidence(ground_truth, results, score_thr=0.4), np.array([weights]))
    # the order of the copies' equal scores, which COCO breaks by image, moves AP a little
    for name, values in metrics.items():
        assert values[0] == pytest.approx(expected[name], abs=2e-3), name
    assert abs(average_precision(*data, 'segm').mean(1000) - expected['segm_mAP_max1000']) > 5e-3


def test_evidence_through_json(data):
    evidence = gather_evidence(*data, score_thr=0.4)
    read = Evidence.from_dict(json.loads(json.dumps(evidence.to_dict(), allow_nan=False)))
    for name, value in vars(evidence).items():
        np.testing.assert_array_equal(getattr(read, name), value)


def test_nothing_found_and_a_blank_image():
    ground_truth, _ = random_results(0, num_images=2, num_cells=5, num_detections=0)
    ground_truth['images'].append(dict(id=3, height=20, width=20))
    evidence = gather_evidence(ground_truth, [], 0.5)
    assert np.isnan(evidence.pq[2]) and evidence.actual[2].sum() == 0
    metrics = resampled_metrics(evidence, np.array([[1, 1, 1], [0, 0, 3]]))
    for values in metrics.values():
        assert values[0] == 0 and np.isnan(values[1])


def make_evidence(pq):
    """Runs that differ in PQ alone."""
    none = np.zeros(0, np.int64)
    flags = np.zeros((0, 10), bool)
    return Evidence(none, none, flags, flags, np.ones((len(pq), 1), np.int64), np.asarray(pq, float))


def test_interval_of_a_known_difference():
    """PQ of independent images: the interval of a mean of n is about 1.96 standard errors wide on each side."""
    rng = np.random.default_rng(0)
    base, gain = rng.uniform(0.3, 0.5, 400), rng.normal(0.02, 0.05, 400)
    difference, low, high = paired_difference({0: make_evidence(base + gain)}, {0: make_evidence(base)})['PQ']
    error = gain.std() / 20
    assert difference == pytest.approx(gain.mean())
    assert (low, high) == pytest.approx((difference - 1.96 * error, difference + 1.96 * error), abs=0.15 * 1.96 * error)


def test_interval_of_a_known_mean():
    rng = np.random.default_rng(2)
    pq = rng.normal(0.5, 0.1, 400)
    value, low, high = metric_intervals(make_evidence(pq), ['a'])['PQ']
    error = pq.std() / 20
    assert value == pytest.approx(pq.mean())
    assert (low, high) == pytest.approx((value - 1.96 * error, value + 1.96 * error), abs=0.15 * 1.96 * error)


def test_intervals_are_of_the_figures_of_the_run_and_of_its_classes(data):
    ground_truth, results = data
    missing = [entry for entry in ground_truth['annotations'] if entry['category_id'] != 3]
    ground_truth = dict(ground_truth, annotations=missing)
    classes = [entry['name'] for entry in ground_truth['categories']]
    intervals = metric_intervals(gather_evidence(ground_truth, results, 0.4), classes, num_resamples=20)
    expected = evaluate(ground_truth, results, score_thr=0.4)
    assert {f'segm_AP50_max1000_{name}' for name in classes} < set(intervals)
    assert np.isnan(intervals.pop('segm_AP50_max1000_class 3')).all()
    for name, (value, low, high) in intervals.items():
        assert value == pytest.approx(expected[name], abs=1e-9) and low <= value <= high and low < high, name


def test_images_and_seeds_are_paired():
    """Images and seeds that are hard for both rows leave the difference sharp."""
    rng = np.random.default_rng(1)
    images, seeds = rng.uniform(0.1, 0.7, 50), [-0.1, 0.0, 0.1]
    above = {number: make_evidence(images + seed) for number, seed in enumerate(seeds)}
    row = {number: make_evidence(images + seed + 0.02) for number, seed in enumerate(seeds)}
    assert paired_difference(row, above)['PQ'] == pytest.approx((0.02, 0.02, 0.02))
    others = {number + 10: evidence for number, evidence in row.items()}  # seeds of its own
    difference, low, high = paired_difference(others, above)['PQ']
    assert difference == pytest.approx(0.02) and low < -0.05 and high > 0.09


def test_detections_take_the_best_free_cell():
    """At 0.5 of the ten thresholds; where ground truth overlaps itself several cells may reach it."""
    none = np.zeros(2, bool)
    # the first takes its better cell, so that one is left for the second; at equal ones it takes the last
    for iou in ([[0.6, 0.8], [0.7, 0.1]], [[0.8, 0.6], [0.1, 0.7]], [[0.7, 0.7], [0.6, 0.0]]):
        assert match_detections(np.array(iou), none)[0][:, 0].all(), iou
    assert list(match_detections(np.array([[0.7, 0.7], [0.0, 0.6]]), none)[0][:, 0]) == [True, False]
    hits, ignored = match_detections(np.array([[0.9, 0.6], [0.9, 0.0], [0.9, 0.0]]), np.array([True, False]))
    assert list(hits[:, 0]) == [True, False, False] and list(ignored[:, 0]) == [False, True, True]
