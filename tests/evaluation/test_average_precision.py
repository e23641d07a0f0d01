import numpy as np
import pytest
from random_results import annotation, disc, encode, make_ground_truth, perfect_detections, random_results

from cellseg_mm.evaluation import average_precision
from cellseg_mm.evaluation.average_precision import ENGINES, SIZE_BANDS


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('iou_type', ['segm', 'bbox'])
def test_250_perfect_detections(engine, iou_type):
    """At 1,000 all count. At 100 recall ends at 0.4: precision is 1 at the 41 recalls 0, 0.01, ..., 0.4 of 101."""
    precision = average_precision(*perfect_detections(250), iou_type, engine=engine)
    for iou_thr in (None, 0.5):
        assert precision.mean(1000, iou_thr) == pytest.approx(1, abs=1e-12)
        assert precision.mean(100, iou_thr) == pytest.approx(41 / 101, abs=1e-12)


@pytest.mark.parametrize('iou_type', ['segm', 'bbox'])
@pytest.mark.parametrize('seed, crowd', [(0, 0.0), (1, 0.0), (2, 0.2), (3, 0.5)])
def test_engines_agree_on_dense_sets(iou_type, seed, crowd):
    data = random_results(seed, 2, num_cells=280, num_detections=420, shape=(300, 360), num_classes=2, crowd=crowd)
    ours, reference = (average_precision(*data, iou_type, engine=engine) for engine in ENGINES)
    assert ours.precision.shape == reference.precision.shape == (10, 101, 2, len(SIZE_BANDS), 2)
    np.testing.assert_allclose(ours.precision, reference.precision, atol=1e-6)
    for max_dets in (100, 1000):
        assert 0.02 < ours.mean(max_dets) < 1
        assert ours.mean(max_dets) == pytest.approx(reference.mean(max_dets), abs=1e-6)
    assert ours.mean(1000) > ours.mean(100)


@pytest.mark.parametrize('engine', ENGINES)
def test_thresholds_classes_and_sizes(engine):
    """Two classes: one found exactly, one shifted to an IoU of 0.6. Cells of 10 and of 40 px."""
    small, large, shifted = (np.zeros((64, 64), np.uint8) for _ in range(3))
    small[2:12, 2:12] = 1
    large[20:60, 5:45] = 1
    shifted[20:60, 15:55] = 1  # IoU 30 / 50
    ground_truth = make_ground_truth(
        (64, 64), [annotation(1, 0, encode(small)), annotation(1, 1, encode(large))], num_classes=3
    )
    results = [annotation(1, 0, encode(small), score=0.9), annotation(1, 1, encode(shifted), score=0.8)]
    precision = average_precision(ground_truth, results, 'segm', engine=engine)
    assert precision.mean(1000, label=0) == pytest.approx(1)
    assert precision.mean(1000, label=1) == pytest.approx(0.3)  # at 0.5, 0.55, 0.6 of ten thresholds
    assert np.isnan(precision.mean(1000, label=2))  # no such cell: not a zero that lowers the mean
    assert precision.mean(1000) == pytest.approx(0.65)
    assert precision.mean(1000, 0.5) == pytest.approx(1) and precision.mean(1000, 0.75) == pytest.approx(0.5)
    assert precision.mean(1000, band='under_16px') == pytest.approx(1)
    assert precision.mean(1000, band='over_32px') == pytest.approx(0.3)
    assert np.isnan(precision.mean(1000, band='16_to_32px'))


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('iou_type', ['segm', 'bbox'])
def test_classes_are_as_listed(engine, iou_type):
    ground_truth, results = random_results(5, num_cells=30, num_detections=40, num_classes=3)
    by_id = average_precision(ground_truth, results, iou_type, engine=engine)
    order = [2, 0, 1]
    listed = dict(ground_truth, categories=[ground_truth['categories'][label] for label in order])
    shuffled = average_precision(listed, results, iou_type, engine=engine)
    expected = [by_id.mean(1000, 0.5, label) for label in order]
    assert [shuffled.mean(1000, 0.5, label) for label in range(3)] == expected and len(set(expected)) == 3
    assert shuffled.mean(1000) == pytest.approx(by_id.mean(1000), abs=1e-12)


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('iou_type', ['segm', 'bbox'])
@pytest.mark.parametrize('first, step', [(0, 1), (7, 0), (None, None)])
def test_ids_of_annotations_do_not_count(engine, iou_type, first, step):
    """From 0 on, all the same, and none."""
    ground_truth, results = perfect_detections(5)
    for number, entry in enumerate(ground_truth['annotations']):
        del entry['id']
        if first is not None:
            entry['id'] = first + step * number
    assert average_precision(ground_truth, results, iou_type, engine=engine).mean(1000) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize('engine', ENGINES)
def test_no_detection_scores_nothing(engine):
    cell = encode(disc((40, 40), (20, 20), 8))
    ground_truth = make_ground_truth((40, 40), [annotation(1, 0, cell)])
    assert average_precision(ground_truth, [], 'segm', engine=engine).mean(1000) == 0.0


def test_arguments_stay_as_they_are():
    ground_truth, results = random_results(0, num_cells=10, num_detections=12)
    before = [dict(entry) for entry in ground_truth['annotations']], [dict(entry) for entry in results]
    average_precision(ground_truth, results, 'segm')
    assert before == (ground_truth['annotations'], results)
