import copy

import numpy as np
import pytest
from conftest import build_dataset
from mmcv.transforms import LoadImageFromFile
from pycocotools import mask as mask_utils

from cellseg_mm.datasets.transforms import LoadCellAnnotations, LoadRecentImage
from cellseg_mm.datasets.transforms.loading import masks_from_coco
from cellseg_mm.utils import UserError


@pytest.fixture
def infos(prepared):
    dataset = build_dataset(prepared, [])
    return [dataset.get_data_info(index) for index in range(len(dataset))]


@pytest.mark.parametrize('use_map', [True, False], ids=['from the map', 'from RLE'])
def test_masks_are_what_pycocotools_decodes(infos, use_map):
    assert any(not info['instances'] for info in infos)
    for info in infos:
        if not use_map:
            info.pop('instance_map_path')
        results = LoadCellAnnotations()(copy.deepcopy(info))
        masks = results['gt_masks']
        assert len(masks) == len(info['instances']) == len(results['gt_bboxes']) == len(results['gt_bboxes_labels'])
        for instance, mask in zip(info['instances'], masks, strict=True):
            assert np.array_equal(mask, mask_utils.decode(instance['mask']))
        assert results['gt_bboxes_labels'].tolist() == [instance['bbox_label'] for instance in info['instances']]
        # tight boxes and areas: from the annotations, from the map, all the same
        assert np.array_equal(results['gt_bboxes'].tensor.numpy(), masks.get_bboxes('hbox').tensor.numpy())
        assert masks.areas.tolist() == [mask.sum() for mask in masks]
        known = masks.areas.copy()
        masks._measure()
        assert np.array_equal(masks.areas, known)


def test_polygons_and_both_kinds_of_rle_and_overlap():
    square = np.zeros((20, 30), np.uint8)
    square[2:12, 3:13] = 1
    moved = np.zeros((20, 30), np.uint8)
    moved[5:15, 8:18] = 1
    polygon = [[3, 2, 13, 2, 13, 12, 3, 12]]
    runs = np.diff(np.flatnonzero(np.diff(moved.T.ravel(), prepend=2, append=2)))
    uncompressed = dict(size=[20, 30], counts=runs.tolist())
    compressed = mask_utils.encode(np.asfortranarray(square))
    masks = masks_from_coco([polygon, uncompressed, compressed], 20, 30)
    assert masks.layers.shape[0] == 3  # each overlaps the others
    for found, expected in zip(masks, (square, moved, square), strict=True):
        assert np.array_equal(found, expected)


def test_a_broken_or_foreign_map_is_named(infos, tmp_path):
    info = dict(infos[1], instance_map_path=str(tmp_path / 'gone.tif'))
    with pytest.raises(UserError, match=r'gone\.tif.*prepare the data again'):
        LoadCellAnnotations()(info)
    info = dict(infos[1], height=infos[1]['height'] + 1)
    with pytest.raises(UserError, match='its image has'):
        LoadCellAnnotations()(info)


@pytest.mark.parametrize(
    'mask, message',
    [(dict(size=[5, 6], counts='N0'), r'code 0: \[5, 6\], the image'), (dict(counts='~'), 'code 0: a char')],
)
def test_a_broken_code_is_named(infos, mask, message):
    info = copy.deepcopy(next(info for info in infos if info['instances']))
    info.pop('instance_map_path')
    info['instances'][0]['mask'] = dict(dict(size=[info['height'], info['width']]), **mask)
    with pytest.raises(UserError, match=rf'\.png: broken mask in its annotations \({message}'):
        LoadCellAnnotations()(info)


def test_recent_images_are_read_once_and_cannot_be_written_to(infos):
    load, plain = LoadRecentImage(keep=1), LoadImageFromFile()
    first = load(copy.deepcopy(infos[0]))
    assert np.array_equal(first['img'], plain(copy.deepcopy(infos[0]))['img'])
    assert first['img_shape'] == first['ori_shape'] == first['img'].shape[:2]
    assert load(copy.deepcopy(infos[0]))['img'] is first['img']
    with pytest.raises(ValueError, match='read-only'):
        first['img'][0, 0] = 0
    load(copy.deepcopy(infos[1]))
    assert load(copy.deepcopy(infos[0]))['img'] is not first['img']


def test_recent_maps_are_read_once(infos):
    load = LoadCellAnnotations(keep=2)
    info = next(info for info in infos if info['instances'])
    first, second = (load(copy.deepcopy(info))['gt_masks'] for _ in range(2))
    assert first.layers is second.layers
