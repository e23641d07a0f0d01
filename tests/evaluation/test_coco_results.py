import json

import pytest
from conftest import read_json
from mmdet.registry import DATASETS
from random_results import random_results

from cellseg_mm.evaluation import read_ground_truth, read_results, read_tested
from cellseg_mm.utils import UserError


@pytest.mark.parametrize('indices', [None, 2, -1, [2, 0]])
def test_the_images_of_a_test_are_those_of_its_dataset(prepared, indices):
    config = dict(data_root=f'{prepared}/', ann_file='annotations/test.json', data_prefix=dict(img='images/'))
    config['indices'] = indices
    metainfo = dict(classes=read_json(prepared / 'statistics.json')['classes'])
    dataset = DATASETS.build(dict(config, type='CellDataset', test_mode=True, metainfo=metainfo, pipeline=[]))
    expected = {dataset.get_data_info(index)['img_id'] for index in range(len(dataset))}
    found = read_tested(config)
    assert {image['id'] for image in found['images']} == expected
    whole = read_json(prepared / 'annotations/test.json')['annotations']
    assert found['annotations'] == [entry for entry in whole if entry['image_id'] in expected]


ABSENT = object()


def with_value(entries, index, key, value):
    """The entries with a value of one of them changed, or left out."""
    changed = [dict(entry) for entry in entries]
    changed[index][key] = value
    if value is ABSENT:
        del changed[index][key]
    return changed


@pytest.mark.parametrize(
    'key, value, message',
    [
        ('segmentation', ABSENT, 'has no segmentation'),
        ('segmentation', 'abc', "segmentation is 'abc', expected a run-length code"),
        ('segmentation', dict(counts='abc'), 'expected a run-length code'),
        ('score', 'high', "score is 'high', expected a finite number"),
        ('score', float('nan'), 'score is nan, expected a finite number'),
        ('score', None, 'score is None'),
        ('bbox', [1, 2, 3], 'expected 4 finite numbers'),
        ('image_id', [1], 'expected the id of an image'),
        ('category_id', None, 'expected the id of a category'),
    ],
)
def test_a_wrong_result_is_named(tmp_path, key, value, message):
    _, results = random_results(0, num_cells=5, num_detections=6)
    path = tmp_path / 'results.json'
    path.write_text(json.dumps(results))
    assert read_results(path) == results
    path.write_text(json.dumps(with_value(results, 3, key, value)))
    with pytest.raises(UserError) as error:
        read_results(path)
    assert str(error.value).startswith(f'{path}: result 3: {key} is ' if value is not ABSENT else f'{path}: result 3: ')
    assert message in str(error.value)


@pytest.mark.parametrize(
    'part, key, value, message',
    [
        ('annotations', 'segmentation', ABSENT, 'annotation entry 1: has no segmentation'),
        (
            'annotations',
            'segmentation',
            [],
            'annotation entry 1: segmentation is [], expected polygons or a run-length',
        ),
        ('annotations', 'category_id', ABSENT, 'annotation entry 1: has no category_id'),
        ('annotations', 'category_id', 9, 'annotation entry 1: category_id is 9, expected the id of a listed category'),
        ('annotations', 'image_id', 'x', "annotation entry 1: image_id is 'x', expected the id of a listed image"),
        ('images', 'height', ABSENT, 'image entry 1: has no height'),
        ('images', 'width', 0, 'image entry 1: width is 0, expected a number of px'),
        ('images', 'id', 1, 'two of its images have the same id'),
        ('categories', 'name', 7, 'category entry 1: name is 7, expected a text'),
        ('categories', 'id', 1, 'two of its categories have the same id'),
    ],
)
def test_a_wrong_entry_of_annotations_is_named(tmp_path, part, key, value, message):
    ground_truth, _ = random_results(0, num_cells=5, num_detections=6)
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps(ground_truth))
    assert read_ground_truth(path) == ground_truth
    path.write_text(json.dumps(dict(ground_truth, **{part: with_value(ground_truth[part], 1, key, value)})))
    with pytest.raises(UserError) as error:
        read_ground_truth(path)
    assert str(error.value).startswith(f'{path}: {message}')


def test_entries_that_are_no_objects(tmp_path):
    ground_truth, results = random_results(0, num_cells=5, num_detections=6)
    path = tmp_path / 'x.json'
    for content, read in (
        ([*results, 5], read_results),
        (dict(ground_truth, annotations=[*ground_truth['annotations'], 5]), read_ground_truth),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=r'is 5, expected an object \{\.\.\.\}'):
            read(path)
