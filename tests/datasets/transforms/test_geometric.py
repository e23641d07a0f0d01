import copy
from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdet.datasets.transforms import RandomFlip

from cellseg_mm.datasets.transforms import (
    ApplyAffine,
    RandomQuarterTurn,
    RandomResizedCrop,
    RandomRotation,
    RandomWindow,
    RandomZoom,
)
from cellseg_mm.datasets.transforms.geometric import crop_matrix, rotation_matrix, to_pixel_indices, zoom_matrix
from cellseg_mm.structures import InstanceMapMasks

DRAWS = 10_000


def apply(matrix, x, y):
    return (matrix @ [x, y, 1])[:2]


def make_results(height=60, width=80, cells=12, seed=0):
    rng = np.random.default_rng(seed)
    layer = np.zeros((1, height, width), np.uint16)
    for number in range(1, cells + 1):
        y, x = rng.integers(0, height - 8), rng.integers(0, width - 8)
        layer[0, y : y + 8, x : x + 8] = number
    masks = InstanceMapMasks(layer, np.arange(1, cells + 1))
    masks = masks[masks.areas > 0]
    return dict(
        img=np.dstack([layer[0] * 20] * 3).astype(np.uint8),
        img_shape=(height, width),
        gt_masks=masks,
        gt_bboxes=masks.get_bboxes('hbox'),
        gt_bboxes_labels=np.arange(len(masks)) * 10,
        gt_ignore_flags=np.zeros(len(masks), bool),
    )


def test_matrices_in_closed_form():
    assert apply(rotation_matrix(90, 40, 60), 30, 20) == pytest.approx([30, 20])  # the centre stays
    assert apply(rotation_matrix(90, 40, 60), 40, 20) == pytest.approx([30, 10])  # right goes up: counter-clockwise
    assert apply(zoom_matrix(2, 40, 60), 0, 0) == pytest.approx([-30, -20])
    assert apply(crop_matrix(10, 5, 20, 30, 40, 60), 10, 5) == pytest.approx([0, 0])
    assert apply(crop_matrix(10, 5, 20, 30, 40, 60), 40, 25) == pytest.approx([60, 40])


def test_pixel_indices_are_half_a_pixel_off():
    index_matrix = to_pixel_indices(zoom_matrix(2, 2, 2))
    assert index_matrix @ [0.5, 0.5, 1] == pytest.approx([0.5, 0.5])  # centre of a 2x2 image
    assert index_matrix @ [0, 0, 1] == pytest.approx([-0.5, -0.5])


@pytest.mark.parametrize('turns', [1, 2, 3])
def test_quarter_turns_move_whole_pixels_of_image_and_masks(turns):
    results = make_results(40, 40)
    image, bitmaps = results['img'].copy(), results['gt_masks'].to_ndarray()
    results['affine_matrix'] = rotation_matrix(90 * turns, 40, 40)
    results = ApplyAffine()(results)
    assert np.array_equal(results['img'], np.rot90(image, turns))
    assert np.array_equal(results['gt_masks'].to_ndarray(), np.rot90(bitmaps, turns, axes=(1, 2)))


def test_several_transforms_are_one_warp_in_their_order():
    """Rotation, zoom, crop one after the other, against the composed map of a smooth image, sampled by hand."""
    rows, cols = np.mgrid[:60, :80]
    image = np.dstack([rows * 3, cols * 2, rows + cols]).astype(np.uint8)
    results = dict(img=image, img_shape=(60, 80))
    rotation, zoom, crop = RandomRotation(prob=1), RandomZoom(prob=1), RandomResizedCrop(prob=1)
    rotation.draw_angle, zoom.draw_scale, crop.draw_box = lambda: 10.0, lambda: 1.1, lambda: (0.05, 0.1, 0.9, 0.9)
    for transform in (rotation, zoom, crop, ApplyAffine()):
        results = transform(results)
    matrix = crop_matrix(4, 6, 54, 72, 60, 80) @ zoom_matrix(1.1, 60, 80) @ rotation_matrix(10, 60, 80)
    for row, col in ((30, 40), (20, 50), (40, 25)):
        x, y = apply(np.linalg.inv(matrix), col + 0.5, row + 0.5)
        expected = [(y - 0.5) * 3, (x - 0.5) * 2, x + y - 1]
        assert results['img'][row, col] == pytest.approx(expected, abs=0.6)
    assert 'affine_matrix' not in results


@given(st.floats(-15, 15), st.floats(0.85, 1.15), st.integers(0, 10**6))
def test_masks_boxes_labels_stay_in_step(angle, scale, seed):
    results = make_results(seed=seed)
    before = dict(zip(results['gt_bboxes_labels'].tolist(), results['gt_masks'].to_ndarray(), strict=True))
    matrix = results['affine_matrix'] = zoom_matrix(scale, 60, 80) @ rotation_matrix(angle, 60, 80)
    results = ApplyAffine(min_visible=0.1)(results)
    labels = results['gt_bboxes_labels'].tolist()
    assert len(labels) == len(results['gt_masks']) == len(results['gt_bboxes']) == len(results['gt_ignore_flags'])
    for label, mask, box in zip(labels, results['gt_masks'], results['gt_bboxes'].tensor.tolist(), strict=True):
        expected = cv2.warpAffine(before[label], to_pixel_indices(matrix), (80, 60), flags=cv2.INTER_NEAREST)
        assert np.array_equal(mask, expected)
        rows, cols = np.nonzero(mask)
        assert box == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
    for label, mask in before.items():
        left = cv2.warpAffine(mask, to_pixel_indices(matrix), (80, 60), flags=cv2.INTER_NEAREST).sum()
        share = left / (mask.sum() * scale**2)
        assert (label in labels) == (left > 0 and share >= 0.1)


def test_image_and_mask_share_one_convention():
    """A cell drawn into the image stays under its mask."""
    results = make_results(120, 160, cells=6, seed=3)
    results['img'] = np.dstack([(results['gt_masks'].layers[0] > 0) * 255] * 3).astype(np.uint8)
    results['affine_matrix'] = zoom_matrix(1.13, 120, 160) @ rotation_matrix(7.3, 120, 160)
    results = ApplyAffine(min_visible=0)(results)
    drawn, masked = results['img'][..., 0] > 127, (results['gt_masks'].layers[0] > 0)
    assert (drawn != masked).sum() <= 0.02 * masked.sum()
    shifted = np.roll(masked, 1, axis=1)
    assert (drawn != shifted).sum() > 5 * (drawn != masked).sum()


@pytest.mark.parametrize('ignored', [False, True])
@pytest.mark.parametrize('left, kept', [(0.15, True), (0.05, False), (0, False)])
def test_a_sliver_is_dropped(left, kept, ignored):
    """Of an ignored region it is kept: the region may be far larger than the window it fills."""
    kept |= ignored and left > 0
    layer = np.zeros((1, 40, 100), np.uint16)
    layer[0, 10:30, 0:20] = 1
    masks = InstanceMapMasks(layer)
    results = dict(
        img=np.zeros((40, 100, 3), np.uint8),
        img_shape=(40, 100),
        gt_masks=masks,
        gt_bboxes=masks.get_bboxes('hbox'),
        gt_bboxes_labels=np.array([3]),
        gt_ignore_flags=np.array([ignored]),
        affine_matrix=np.array([[1, 0, -20 * (1 - left)], [0, 1, 0], [0, 0, 1]]),
    )
    results = ApplyAffine(min_visible=0.1)(results)
    assert results['gt_bboxes_labels'].tolist() == ([3] if kept else [])
    assert results['gt_bboxes'].tensor.shape == (int(kept), 4) and len(results['gt_masks']) == int(kept)


def test_without_a_matrix_nothing_is_touched():
    results = make_results()
    image = results['img']
    assert ApplyAffine()(results)['img'] is image


def applied_share(transform):
    hits = sum('affine_matrix' in transform(dict(img_shape=(50, 70))) for _ in range(DRAWS))
    return hits / DRAWS


@pytest.mark.parametrize(
    'transform, prob',
    [(RandomRotation(), 0.4), (RandomZoom(), 0.3), (RandomResizedCrop(), 0.3)],
    ids=['rotation', 'zoom', 'crop'],
)
def test_probabilities(transform, prob):
    np.random.seed(0)
    assert applied_share(transform) == pytest.approx(prob, abs=0.015)  # three standard deviations of 10,000 draws


@pytest.mark.parametrize('direction, prob', [('horizontal', 0.5), ('vertical', 0.3)])
def test_probabilities_of_the_flips(direction, prob):
    np.random.seed(0)
    flip = RandomFlip(prob=prob, direction=direction)
    drawn = [flip._choose_direction() for _ in range(DRAWS)]
    assert set(drawn) == {None, direction}
    assert drawn.count(direction) / DRAWS == pytest.approx(prob, abs=0.015)


def test_ranges():
    np.random.seed(0)
    rotation, zoom = RandomRotation(), RandomZoom()
    angles = [rotation.draw_angle() for _ in range(DRAWS)]
    scales = [zoom.draw_scale() for _ in range(DRAWS)]
    for values, low, high in ((angles, -15, 15), (scales, 0.85, 1.15)):
        assert low <= min(values) and max(values) <= high
        spread = high - low
        assert np.quantile(values, [0.1, 0.5, 0.9]) == pytest.approx(
            low + spread * np.array([0.1, 0.5, 0.9]), abs=0.02 * spread
        )


def test_boxes_of_the_resized_crop():
    np.random.seed(0)
    crop = RandomResizedCrop()
    left, top, height, width = np.array([crop.draw_box() for _ in range(DRAWS)]).T
    assert (
        (left >= 0).all() and (top >= 0).all() and (left + width <= 1 + 1e-9).all() and (top + height <= 1 + 1e-9).all()
    )
    area, aspect = height * width, width / height
    assert 0.8 <= area.min() < 0.81 and 0.98 < area.max() <= 1.0
    assert 0.9 <= aspect.min() < 0.91 and 1.09 < aspect.max() <= 1.1 + 1e-9
    assert np.median(aspect) == pytest.approx(1.0, abs=0.01)


def test_a_window_is_a_slice_of_image_and_masks():
    """Pixel for pixel; its place is read off the image, whose colours tell row and column."""
    np.random.seed(0)
    corners = set()
    for _ in range(200):
        results = make_results()
        rows, columns = np.indices((60, 80), np.uint8)
        results['img'] = np.dstack([rows, columns, rows])
        before = results['gt_masks'].to_ndarray()
        after = ApplyAffine(min_visible=0.0)(RandomWindow(size=50)(results))
        top, left, _ = map(int, after['img'][0, 0])
        corners.add((top, left))
        window = slice(top, top + 50), slice(left, left + 50)
        assert after['img_shape'] == (50, 50) and np.array_equal(after['img'], results['img'])
        assert np.array_equal(after['img'][..., 0], rows[window]) and np.array_equal(
            after['img'][..., 1], columns[window]
        )
        kept = before[(slice(None), *window)]
        assert np.array_equal(after['gt_masks'].to_ndarray(), kept[kept.any((1, 2))])
    assert {top for top, _ in corners} == set(range(11)) and {left for _, left in corners} == set(range(31))


def test_windows_for_cells_show_rare_classes_as_often_as_others():
    """One cell of a class in a corner, 29 of another on the other side; turned before, so that places are mapped."""
    layer = np.zeros((1, 100, 100), np.uint16)
    layer[0, 2:8, 2:8] = 1
    for number in range(2, 31):
        layer[0, 60:99, number * 3 : number * 3 + 2] = number
    masks = InstanceMapMasks(layer, np.arange(1, 31))
    labels = np.array([5] + [7] * 29)
    rare, turn, rng = 0, RandomQuarterTurn(), np.random.default_rng(0)
    for _ in range(300):
        results = dict(
            img=np.zeros((100, 100, 3), np.uint8),
            img_shape=(100, 100),
            gt_masks=masks,
            gt_bboxes=masks.get_bboxes('hbox'),
            gt_bboxes_labels=labels,
            gt_ignore_flags=np.zeros(30, bool),
        )
        np.random.seed(rng.integers(2**31))
        after = ApplyAffine(min_visible=0)(RandomWindow(size=40, class_share=1)(turn(results)))
        shown = set(after['gt_bboxes_labels'].tolist())
        assert shown and after['img'].shape == (40, 40, 3)  # each window has the cell that it was drawn for
        rare += 5 in shown
    assert 120 < rare < 180  # half of them, where 1 in 12 windows at any place has it
    # an image without cells, or with ignored regions alone, gives a window at any place
    results['gt_ignore_flags'] = np.ones(30, bool)
    results.pop('affine_matrix', None), results.pop('affine_shape', None)
    assert RandomWindow(size=40, class_share=1)(results)['affine_shape'] == (40, 40)


def test_windows_for_cells_lie_anywhere_about_the_cell():
    """The centre of a cell at (47, 47) is at each of the window's 10 x 10 places."""
    layer = np.zeros((1, 90, 90), np.uint16)
    layer[0, 45:50, 45:50] = 1
    masks, corners = InstanceMapMasks(layer, np.array([1])), set()
    for seed in range(1500):
        results = dict(
            img_shape=(90, 90),
            gt_bboxes=masks.get_bboxes('hbox'),
            gt_bboxes_labels=np.array([0]),
            gt_ignore_flags=np.zeros(1, bool),
        )
        np.random.seed(seed)
        matrix = RandomWindow(size=10, class_share=1)(results)['affine_matrix']
        corners.add((-matrix[0, 2], -matrix[1, 2]))
    assert corners == {(x, y) for x in range(38, 48) for y in range(38, 48)}


def test_what_follows_a_window_acts_on_the_window():
    """Turned by 90 degrees about its own centre it has the same pixels."""
    results = make_results()
    np.random.seed(0)
    results = RandomWindow(size=30)(results)
    plain = ApplyAffine(min_visible=0)(copy.deepcopy(results))
    turn = RandomRotation(prob=1)
    with mock.patch.object(RandomRotation, 'draw_angle', return_value=90):
        turned = ApplyAffine(min_visible=0)(turn(results))
    expected = [np.rot90(plain['img'], quarters) for quarters in (1, 3)]
    assert any(np.array_equal(turned['img'], image) for image in expected) and plain['img'].std() > 0
    window = RandomWindow(size=10)(RandomWindow(size=20)(make_results()))
    assert ApplyAffine(min_visible=0)(window)['img'].shape == (10, 10, 3)


def test_a_window_larger_than_the_image_is_the_image():
    after = ApplyAffine(min_visible=0.1)(RandomWindow(size=70)(make_results()))
    assert after['img'].shape == (60, 70, 3) and after['img_shape'] == (60, 70)


def test_pinned_draws_are_not_shared_between_images():
    np.random.seed(0)
    transform = RandomRotation(prob=1.0)
    first, second = (transform(dict(img_shape=(9, 9)))['affine_matrix'] for _ in range(2))
    assert not np.allclose(first, second)


def test_repr_shows_the_parameters():
    assert repr(RandomRotation(10, 0.2)) == 'RandomRotation(prob=0.2, max_angle=10)'


@pytest.mark.parametrize('turns', range(4))
@pytest.mark.parametrize('window', [None, 24])
def test_random_quarter_turn_is_that_of_numpy_on_long_images_too(turns, window):
    results = make_results(40, 64)
    image, bitmaps = results['img'].copy(), results['gt_masks'].to_ndarray()
    turn = RandomQuarterTurn()
    with mock.patch.object(turn, 'draw_turns', return_value=turns):
        results = turn(results)
    if window:
        crop = RandomWindow(window)
        with mock.patch.object(crop, 'draw_corner', return_value=(5, 7)):
            results = crop(results)
    results = ApplyAffine(min_visible=0)(results)
    place = (slice(7, 31), slice(5, 29)) if window else (slice(None), slice(None))
    assert np.array_equal(results['img'], np.rot90(image, turns)[place])
    expected = [np.rot90(bitmap, turns)[place] for bitmap in bitmaps]
    expected = [bitmap for bitmap in expected if bitmap.any()]
    assert np.array_equal(results['gt_masks'].to_ndarray(), np.stack(expected))
    assert results['img_shape'] == results['img'].shape[:2]


def test_random_quarter_turns_are_as_likely():
    turn = RandomQuarterTurn()
    counts = np.bincount([turn.draw_turns() for _ in range(DRAWS)], minlength=4)
    assert len(counts) == 4 and (abs(counts / DRAWS - 0.25) < 0.02).all()
