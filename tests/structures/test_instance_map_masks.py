import copy
import pickle
from unittest import mock

import cv2
import mmcv
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets.transforms import Expand, FilterAnnotations, Pad, RandomCrop, RandomFlip, Resize, Rotate
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, mask_target
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from cellseg_mm.structures import InstanceMapMasks
from cellseg_mm.structures import mask_target as mask_targets


def random_masks(seed, count, shape, overlap=False):
    """The same random instances, some of them empty, as bitmaps and as id layers."""
    rng = np.random.default_rng(seed)
    height, width = shape
    layers = np.zeros((3 if overlap else 1, *shape), np.int32)
    for number in range(1, count + 1):
        y, x = rng.integers(0, height), rng.integers(0, width)
        h, w = rng.integers(1, max(height // 3, 2)), rng.integers(1, max(width // 3, 2))
        layers[number % len(layers), y : y + h, x : x + w] = number
    bitmaps = np.stack([*((layers == number).any(axis=0) for number in range(1, count + 1)), np.zeros(shape, bool)])
    return BitmapMasks(bitmaps[:-1].astype(np.uint8), *shape), InstanceMapMasks(layers, np.arange(1, count + 1))


layouts = st.tuples(
    st.integers(0, 10**6),
    st.sampled_from([0, 1, 2, 7, 40]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.booleans(),
)


def assert_same(bitmaps, ours):
    expected = bitmaps.to_ndarray()
    assert (ours.height, ours.width) == (bitmaps.height, bitmaps.width)
    assert np.array_equal(ours.to_ndarray(), expected) and ours.to_ndarray().shape == expected.shape


@given(layouts)
def test_content_areas_and_boxes(layout):
    bitmaps, ours = random_masks(*layout)
    assert_same(bitmaps, ours)
    assert len(ours) == len(bitmaps)
    assert np.array_equal(ours.areas, bitmaps.areas)
    assert torch.equal(ours.get_bboxes('hbox').tensor, bitmaps.get_bboxes('hbox').tensor)


@given(layouts, st.sampled_from(['horizontal', 'vertical', 'diagonal']))
def test_flip(layout, direction):
    bitmaps, ours = random_masks(*layout)
    assert_same(bitmaps.flip(direction), ours.flip(direction))


@given(layouts, st.lists(st.integers(-5, 50), min_size=4, max_size=4))
def test_crop(layout, corners):
    bitmaps, ours = random_masks(*layout)
    height, width = layout[2]
    x1, x2 = min(corners[0] % width, corners[2] % width), max(corners[0] % width, corners[2] % width)
    y1, y2 = min(corners[1] % height, corners[3] % height), max(corners[1] % height, corners[3] % height)
    box = np.array([x1, y1, x2, y2])
    assert_same(bitmaps.crop(box), ours.crop(box))


@given(layouts, st.integers(0, 9), st.integers(0, 9))
def test_pad_and_expand(layout, down, right):
    bitmaps, ours = random_masks(*layout)
    height, width = layout[2]
    assert_same(bitmaps.pad((height + down, width + right)), ours.pad((height + down, width + right)))
    canvas = height + 9, width + 9, down, right
    assert_same(bitmaps.expand(*canvas), ours.expand(*canvas))


@pytest.mark.parametrize('turns', [1, 2, 3])
@given(seed=st.integers(0, 10**6), count=st.sampled_from([0, 1, 20]), side=st.integers(2, 40), overlap=st.booleans())
def test_rotation_by_90_degrees(turns, seed, count, side, overlap):
    bitmaps, ours = random_masks(seed, count, (side, side), overlap)
    expected = np.rot90(bitmaps.to_ndarray(), -turns, axes=(1, 2))  # mmcv turns clockwise
    assert np.array_equal(ours.rotate((side, side), 90 * turns).to_ndarray(), expected)


def test_a_thousand_cells():
    bitmaps, ours = random_masks(0, 1000, (200, 300), True)
    assert_same(bitmaps, ours)
    assert_same(
        bitmaps.flip('diagonal').crop(np.array([10, 20, 200, 100])),
        ours.flip('diagonal').crop(np.array([10, 20, 200, 100])),
    )
    assert torch.equal(ours.get_bboxes('hbox').tensor, bitmaps.get_bboxes('hbox').tensor)
    turned = ours.rotate((200, 300), 12.5).to_ndarray()
    for mask, found in zip(bitmaps.to_ndarray()[::37], turned[::37], strict=True):
        assert np.array_equal(found, mmcv.imrotate(mask, 12.5, interpolation='nearest'))


@settings(deadline=None)
@given(layouts, st.floats(-180, 180), st.floats(0.5, 2), st.floats(-0.3, 0.3), st.integers(-9, 9))
def test_warps_are_nearest_warps_of_each_bitmap(layout, angle, scale, shear, offset):
    bitmaps, ours = random_masks(*layout)
    shape = layout[2]
    rotated, sheared = ours.rotate(shape, angle, scale=scale), ours.shear(shape, shear, 'vertical')
    moved = ours.translate(shape, offset, 'vertical')
    matrix = np.array([[scale, shear, offset], [-shear, 1, 0.3]])
    warped = ours.warp(matrix, (30, 20))
    for index, mask in enumerate(bitmaps.to_ndarray()):
        expected = mmcv.imrotate(mask, angle, scale=scale, interpolation='nearest')
        assert np.array_equal(rotated.to_ndarray()[index], expected)
        expected = mmcv.imshear(mask, shear, 'vertical', interpolation='nearest')
        assert np.array_equal(sheared.to_ndarray()[index], expected)
        expected = mmcv.imtranslate(mask, offset, 'vertical', interpolation='nearest')
        assert np.array_equal(moved.to_ndarray()[index], expected)
        expected = cv2.warpAffine(mask, matrix, (20, 30), flags=cv2.INTER_NEAREST)
        assert np.array_equal(warped.to_ndarray()[index], expected)


@settings(deadline=None)
@given(layouts, st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_resize_takes_the_pixel_under_each_centre(layout, new_shape):
    bitmaps, ours = random_masks(*layout)
    resized = ours.resize(new_shape)
    height, width = layout[2]
    # centre (i + 0.5) / new * old, in exact integer arithmetic; one that falls between two pixels may take either
    rows, row_tie = np.divmod((2 * np.arange(new_shape[0]) + 1) * height, 2 * new_shape[0])
    cols, col_tie = np.divmod((2 * np.arange(new_shape[1]) + 1) * width, 2 * new_shape[1])
    clear = (row_tie > 0)[:, None] & (col_tie > 0)
    expected = bitmaps.to_ndarray()[:, rows][:, :, cols]
    assert np.array_equal(resized.to_ndarray()[:, clear], expected[:, clear])


def test_rescale_keeps_the_aspect_ratio():
    _, ours = random_masks(0, 5, (30, 40))
    rescaled = ours.rescale((100, 60))
    assert (rescaled.height, rescaled.width) == (60, 80)


@settings(deadline=None, max_examples=200)
@given(layouts, st.integers(0, 10**6), st.booleans())
def test_mask_targets_are_those_of_bitmaps(layout, seed, binarize):
    bitmaps, ours = random_masks(*layout)
    rng = np.random.default_rng(seed)
    height, width = layout[2]
    count = 12 if len(ours) else 0
    corners = rng.uniform(-3, 43, (count, 2, 2)) if seed % 2 else rng.integers(-3, 43, (count, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
    boxes = boxes.clip(0, np.float32([width, height, width, height]))
    inds = rng.integers(0, max(len(ours), 1), count)
    expected = bitmaps.crop_and_resize(boxes, (7, 7), inds, binarize=binarize)
    found = ours.crop_and_resize(boxes, (7, 7), inds, binarize=binarize)
    assert np.array_equal(found.to_ndarray(), expected.to_ndarray())
    if not binarize:
        arguments = ours.layers, ours._layer_of(ours.ids[inds]), ours.ids[inds], boxes, (7, 7)
        with mock.patch.object(mask_targets, 'CHUNK_PX', 3 * height * width):
            found = mask_targets.instance_roi_align_on_device(*arguments, 'cpu')
        assert np.array_equal(found, expected.to_ndarray())


@pytest.mark.cuda
def test_mask_targets_are_those_of_bitmaps_on_cuda():
    bitmaps, ours = random_masks(0, 40, (90, 120))
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 90, (200, 2, 2)).astype(np.float32)
    boxes, inds = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1), rng.integers(0, 40, 200)
    found, expected = (
        masks.crop_and_resize(boxes, (28, 28), inds, device='cuda').to_ndarray() for masks in (ours, bitmaps)
    )
    assert np.array_equal(found, expected) and found.any()


def test_mmdets_mask_target_takes_it():
    bitmaps, ours = random_masks(3, 30, (60, 80))
    proposals = torch.rand(50, 4) * 30
    proposals[:, 2:] += proposals[:, :2] + 1
    inds = torch.randint(0, 30, (50,))
    cfg = ConfigDict(mask_size=28)
    assert torch.equal(mask_target([proposals], [inds], [ours], cfg), mask_target([proposals], [inds], [bitmaps], cfg))


@pytest.mark.parametrize(
    'index', [3, slice(1, 5), [0, 2], np.array([True, False] * 4), torch.tensor([5, 5, 1]), np.array([], int), []]
)
def test_indexing_shares_the_map(index):
    bitmaps, ours = random_masks(0, 8, (20, 20))
    part = ours[index]
    assert part.layers is ours.layers
    plain = index.numpy() if isinstance(index, torch.Tensor) else index
    plain = np.array(plain, int) if isinstance(plain, list) else plain
    assert_same(bitmaps[plain], part)


def test_cat_of_parts_and_of_strangers():
    bitmaps, ours = random_masks(0, 8, (20, 20))
    parts = InstanceMapMasks.cat([ours[:3], ours[5:]])
    assert parts.layers is ours.layers
    assert_same(bitmaps[[0, 1, 2, 5, 6, 7]], parts)
    other_bitmaps, other = random_masks(1, 6, (20, 20), overlap=True)
    assert_same(BitmapMasks.cat([bitmaps[2:], other_bitmaps]), InstanceMapMasks.cat([ours[2:], other]))
    with pytest.raises(ValueError, match='one size'):
        InstanceMapMasks.cat([ours, random_masks(0, 1, (20, 21))[1]])


def test_instance_data_indexes_without_copying_maps():
    bitmaps, ours = random_masks(0, 8, (20, 20))
    data = InstanceData(masks=ours, labels=torch.arange(8))
    assert data[torch.tensor([1, 6])].masks.layers is ours.layers
    assert_same(bitmaps[[1, 6]], data[torch.tensor([1, 6])].masks)


def test_copies_share_and_pickles_carry():
    bitmaps, ours = random_masks(0, 8, (20, 20))
    assert copy.deepcopy(ours).layers is ours.layers is copy.copy(ours).layers
    assert_same(bitmaps, pickle.loads(pickle.dumps(ours)))


def test_conversions():
    bitmaps, ours = random_masks(2, 5, (9, 8), overlap=True)
    assert_same(ours.to_bitmap(), ours)
    assert torch.equal(ours.to_tensor(torch.bool, 'cpu'), bitmaps.to_tensor(torch.bool, 'cpu'))
    assert [np.array_equal(a, b) for a, b in zip(ours, bitmaps, strict=True)] == [True] * 5


def test_refusals():
    _, ours = random_masks(0, 3, (9, 9))
    with pytest.raises(TypeError, match='to_bitmap'):
        _ = ours.masks
    with pytest.raises(ValueError, match='background'):
        ours.rotate((9, 9), 10, border_value=1)
    with pytest.raises(ValueError, match='integers'):
        InstanceMapMasks(np.zeros((1, 3, 3)))


def results(masks, seed=0):
    rng = np.random.default_rng(seed)
    return dict(
        img=rng.integers(0, 256, (masks.height, masks.width, 3)).astype(np.uint8),
        img_shape=(masks.height, masks.width),
        gt_masks=masks,
        gt_bboxes=masks.get_bboxes('hbox'),
        gt_bboxes_labels=np.arange(len(masks)),
        gt_ignore_flags=np.zeros(len(masks), bool),
    )


@pytest.mark.parametrize(
    'transform',
    [
        RandomFlip(prob=1.0, direction='horizontal'),
        RandomCrop(crop_size=(25, 30), recompute_bbox=True, allow_negative_crop=True),
        Pad(size_divisor=32),
        Expand(prob=1.0),
        FilterAnnotations(min_gt_bbox_wh=(2, 2), by_mask=True, min_gt_mask_area=4, keep_empty=False),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_stock_transforms_give_what_they_give_on_bitmaps(transform):
    bitmaps, ours = random_masks(5, 30, (40, 60))
    outcomes = []
    for masks in (bitmaps, ours):
        np.random.seed(1)
        outcomes.append(transform(results(masks)))
    assert_same(outcomes[0]['gt_masks'], outcomes[1]['gt_masks'])
    assert torch.equal(outcomes[0]['gt_bboxes'].tensor, outcomes[1]['gt_bboxes'].tensor)
    assert np.array_equal(outcomes[0]['gt_bboxes_labels'], outcomes[1]['gt_bboxes_labels'])


@pytest.mark.parametrize(
    'transform', [Resize(scale=(90, 70), keep_ratio=True), Rotate(prob=1.0, level=None, max_mag=15.0)]
)
def test_stock_resampling_transforms_run(transform):
    _, ours = random_masks(5, 30, (40, 60))
    out = transform(results(ours))
    assert (out['gt_masks'].height, out['gt_masks'].width) == out['img'].shape[:2]
    assert isinstance(out['gt_bboxes'], HorizontalBoxes)
