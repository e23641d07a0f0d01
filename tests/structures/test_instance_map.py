import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as mask_utils

from cellseg_mm.structures import encode_instances, instance_extents, read_layers, relabel, stack_layers, write_layers
from cellseg_mm.structures.instance_map import Runs, find_runs, lay_runs

maps = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 6))


@given(maps)
def test_codes_are_those_of_pycocotools_mask_by_mask(instance_map):
    codes = encode_instances(instance_map, 6)
    for number, code in enumerate(codes, start=1):
        expected = mask_utils.encode(np.asfortranarray(instance_map == number, np.uint8))
        assert code == {'size': list(expected['size']), 'counts': expected['counts'].decode()}


@given(maps)
def test_boxes_and_areas_are_the_extent_of_each_mask(instance_map):
    boxes, areas = instance_extents(instance_map, np.arange(1, 7))
    for number, (box, area) in enumerate(zip(boxes, areas, strict=True), start=1):
        rows, cols = np.nonzero(instance_map == number)
        expected = [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
        assert box.tolist() == expected and area == len(rows)


@given(maps, st.sampled_from([1, 1000, 10**9]))
def test_relabel_keeps_the_partition_and_the_order_of_ids(instance_map, spread):
    ids = instance_map.astype(np.int64) * spread
    relabelled, count = relabel(ids)
    present = np.unique(ids[ids > 0])
    assert count == len(present)
    for new, old in enumerate(present, start=1):
        assert np.array_equal(relabelled == new, ids == old)
    assert np.array_equal(relabelled == 0, ids == 0)


@settings(max_examples=50)
@given(st.lists(hnp.arrays(np.int32, (7, 9), elements=st.integers(0, 3)), min_size=1, max_size=4))
def test_layers_hold_every_instance_whole_where_maps_overlap(masks):
    masks = [relabel(mask)[0] for mask in masks]
    layers, counts = stack_layers(masks)
    number = 0
    for mask, count in zip(masks, counts, strict=True):
        for instance in range(1, count + 1):
            number += 1
            assert np.array_equal((layers == number).any(axis=0), mask == instance)
            assert (layers == number).any(axis=(1, 2)).sum() == 1
    assert layers.max() == number


def test_one_layer_where_nothing_overlaps():
    left, right = np.zeros((2, 4, 4), np.int32)
    left[:, :2], right[:, 2:] = 1, 1
    layers, counts = stack_layers([left, right])
    assert layers.tolist() == [[[1, 1, 2, 2]] * 4]
    assert counts.tolist() == [1, 1]


@settings(max_examples=50)
@given(maps)
def test_the_runs_of_a_map_paint_it(instance_map):
    runs = find_runs(instance_map)
    assert np.array_equal(lay_runs(runs, 6, *instance_map.shape), instance_map[None])


def test_more_layers_than_allowed_name_the_place():
    one = Runs(np.zeros(1, int), np.array([7]), np.array([3]))  # from x 1, y 2 on, in an image of height 5
    runs = Runs.concatenate([one] * 3, [1] * 3)
    assert lay_runs(runs, 3, 5, 4).shape == lay_runs(runs, 3, 5, 4, max_layers=3).shape == (3, 5, 4)
    with pytest.raises(ValueError, match='more than 2 instances over one another near x 1, y 2'):
        lay_runs(runs, 3, 5, 4, max_layers=2)


@pytest.mark.parametrize('highest, dtype', [(65_535, np.uint16), (65_536, np.int32)])
def test_layers_round_trip_through_a_file(tmp_path, highest, dtype):
    layers = np.arange(2 * 5 * 6, dtype=np.int32).reshape(2, 5, 6)
    layers[1, 2, 3] = highest
    write_layers(tmp_path / 'map.tif', layers)
    assert np.array_equal(read_layers(tmp_path / 'map.tif'), layers)
    assert cv2.imread(str(tmp_path / 'map.tif'), cv2.IMREAD_UNCHANGED).dtype == dtype


def test_missing_layers_raise(tmp_path):
    with pytest.raises(OSError, match=r'map\.tif'):
        read_layers(tmp_path / 'map.tif')
