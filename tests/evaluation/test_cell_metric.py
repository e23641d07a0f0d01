import json

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS
from pycocotools import mask as mask_utils
from random_results import random_results

from cellseg_mm.evaluation import evaluate, read_results
from cellseg_mm.utils import UserError

CLASSES = tuple(f'class {number}' for number in range(1, 5))


@pytest.fixture
def data():
    return random_results(7, num_images=2, num_cells=25, num_detections=30)


def samples_of(ground_truth, results, as_bitmaps=False):
    """What mmdet hands to a metric."""
    samples = []
    for image in ground_truth['images']:
        entries = [entry for entry in results if entry['image_id'] == image['id']]
        boxes = torch.tensor([entry['bbox'] for entry in entries], dtype=torch.float64).reshape(-1, 4)
        masks = [entry['segmentation'] for entry in entries]
        if as_bitmaps:
            masks = torch.from_numpy(mask_utils.decode(masks).transpose(2, 0, 1).astype(bool))
        instances = dict(
            bboxes=torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1),
            scores=torch.tensor([entry['score'] for entry in entries], dtype=torch.float64),
            labels=torch.tensor([entry['category_id'] - 1 for entry in entries]),
            masks=masks,
        )
        samples.append(dict(img_id=image['id'], pred_instances=instances))
    return samples


def run(config, samples):
    metric = METRICS.build(config)
    metric.dataset_meta = dict(classes=CLASSES)
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('as_bitmaps', [False, True])
def test_figures_of_samples_are_those_of_their_results(data, tmp_path, as_bitmaps):
    ground_truth, results = data
    (tmp_path / 'gt.json').write_text(json.dumps(ground_truth))
    config = dict(type='CellMetric', ann_file=str(tmp_path / 'gt.json'), score_thr=0.3)
    found = run(config, samples_of(ground_truth, results, as_bitmaps))
    expected = evaluate(ground_truth, results, score_thr=0.3)
    assert found.keys() == {f'cells/{name}' for name in expected}
    np.testing.assert_allclose(list(found.values()), list(expected.values()), atol=1e-12)


def test_an_image_that_a_wrapper_repeats_counts_once(data, tmp_path):
    ground_truth, results = data
    (tmp_path / 'gt.json').write_text(json.dumps(ground_truth))
    config = dict(type='CellMetric', ann_file=str(tmp_path / 'gt.json'), score_thr=0.3)
    samples, dump = samples_of(ground_truth, results), dict(type='DumpCocoResults', path=str(tmp_path / 'x.json'))
    once, twice = run(config, samples), run(config, samples * 2)
    np.testing.assert_array_equal(list(once.values()), list(twice.values()))
    run(dump, samples * 2)
    assert len(read_results(tmp_path / 'x.json')) == len(results)


def test_images_that_were_not_predicted_are_left_out(data, tmp_path):
    """As when `dataset.indices` takes a part of the set."""
    ground_truth, results = data
    (tmp_path / 'gt.json').write_text(json.dumps(ground_truth))
    found = run(dict(type='CellMetric', ann_file=str(tmp_path / 'gt.json')), samples_of(ground_truth, results)[:1])
    first = {
        key: [entry for entry in ground_truth[key] if entry.get('image_id', entry['id']) == 1]
        for key in ('images', 'annotations')
    }
    expected = evaluate(dict(ground_truth, **first), [entry for entry in results if entry['image_id'] == 1])
    assert found['cells/segm_mAP_max1000'] == expected['segm_mAP_max1000']
    assert found['cells/score_thr'] == expected['score_thr']


def test_dumped_results_read_back(data, tmp_path):
    ground_truth, results = data
    path = tmp_path / 'new' / 'results.json'
    assert run(dict(type='DumpCocoResults', path=str(path)), samples_of(ground_truth, results)) == {}
    read = read_results(path)
    assert [entry['segmentation'] for entry in read] == [entry['segmentation'] for entry in results]
    assert [entry['score'] for entry in read] == [entry['score'] for entry in results]
    np.testing.assert_allclose([entry['bbox'] for entry in read], [entry['bbox'] for entry in results])
    assert evaluate(ground_truth, read) == pytest.approx(evaluate(ground_truth, results), nan_ok=True)


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'No such file'),
        ('{', 'is not valid JSON'),
        ('{}', 'is no list'),
        ('[{"score": 1}]', 'result 0: has no image_id'),
    ],
)
def test_broken_results_files(tmp_path, content, message):
    path = tmp_path / 'results.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_results(path)


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'No such file'),
        ('{', 'is not valid JSON'),
        ('[]', 'is no COCO annotation file'),
        ('{"images": [], "annotations": [], "categories": []}', 'nothing to score against'),
    ],
)
def test_broken_annotation_files(tmp_path, content, message):
    path = tmp_path / 'gt.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        METRICS.build(dict(type='CellMetric', ann_file=str(path)))
