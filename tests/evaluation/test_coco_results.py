import pytest
from conftest import read_json
from mmdet.registry import DATASETS

from cellseg_mm.evaluation import read_tested


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
