import numpy as np
import pytest
from random_results import perfect_detections, random_results

from cellseg_mm.evaluation import average_precision, class_table, evaluate, make_scenes, panoptic_counts
from cellseg_mm.evaluation.average_precision import ENGINES


@pytest.fixture(scope='module')
def data():
    return random_results(5, num_images=3, num_cells=60, num_detections=140)


def test_perfect_detections_score_one_everywhere(data):
    ground_truth, _ = data
    results = [dict(entry, score=0.9) for entry in ground_truth['annotations']]
    metrics = evaluate(ground_truth, results)
    empty = {'segm_mAP_max1000_16_to_32px', 'segm_mAP_max1000_over_32px'}
    assert metrics.pop('score_thr') == 0.9
    for name, value in metrics.items():
        assert np.isnan(value) if name in empty else value == pytest.approx(1, abs=1e-9), name


def test_names_say_how_many_detections_count():
    metrics = evaluate(*perfect_detections(250))
    for name in ('mAP', 'AP50', 'AP75'):
        for suffix in ('', '_class 1'):
            assert metrics[f'segm_{name}_max1000{suffix}'] == pytest.approx(1)
            assert metrics[f'bbox_{name}_max100{suffix}'] == pytest.approx(41 / 101)


def test_metrics_are_those_of_the_functions_they_name(data):
    ground_truth, results = data
    metrics = evaluate(ground_truth, results, score_thr=0.4)
    precision = average_precision(ground_truth, results, 'segm')
    assert metrics['segm_AP75_max100_class 2'] == precision.mean(100, 0.75, label=1)
    assert metrics['segm_mAP_max1000'] == precision.mean(1000)
    assert metrics['segm_mAP_max1000_under_16px'] == precision.mean(1000, band='under_16px')
    assert metrics['bbox_AP50_max1000'] == average_precision(ground_truth, results, 'bbox').mean(1000, 0.5)
    kept = [entry for entry in results if entry['score'] >= 0.4]
    scenes = make_scenes(ground_truth, kept)
    assert metrics['PQ'] == pytest.approx(panoptic_counts(scenes).quality()[0].mean())
    pooled = panoptic_counts(scenes, 4).pooled().quality()
    assert metrics['SQ_class 3'] == pytest.approx(pooled[2][2]) and metrics['mDQ'] == pytest.approx(pooled[1].mean())
    assert metrics['score_thr'] == 0.4


def test_the_threshold_is_the_best_on_the_data(data):
    metrics = evaluate(*data)
    others = [evaluate(*data, score_thr=thr)['PQ'] for thr in (0.05, metrics['score_thr'], 0.95)]
    assert metrics['PQ'] == others[1] == max(others) > min(others)


def test_engines_agree_on_all_metrics(data):
    ours, reference = (evaluate(*data, score_thr=0.3, engine=engine) for engine in ENGINES)
    assert ours.keys() == reference.keys()
    np.testing.assert_allclose(list(ours.values()), list(reference.values()), atol=1e-6)


def test_no_detection(data):
    metrics = evaluate(data[0], [])
    assert metrics['segm_mAP_max1000'] == metrics['PQ'] == metrics['AJI'] == metrics['F1_detection'] == 0.0
    assert metrics['score_thr'] == 0.95


def test_class_table(data):
    header, rows = class_table(evaluate(*data), [f'class {number}' for number in range(1, 5)])
    assert [row[0] for row in rows] == ['class 1', 'class 2', 'class 3', 'class 4', 'mean']
    assert all(len(row) == len(header) for row in rows)
    assert rows[-1][1] == pytest.approx(np.mean([row[1] for row in rows[:-1]]))
