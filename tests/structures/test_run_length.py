import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mmdet.structures.mask import encode_mask_results
from pycocotools import mask as mask_utils

from cellseg_mm.structures import decode_runs, decode_window, encode_runs, paint_instances, to_code
from cellseg_mm.structures.run_length import Runs

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
masks = shapes.flatmap(
    lambda shape: hnp.arrays(
        np.uint8, st.tuples(st.integers(1, 5)).map(lambda n: n + shape), elements=st.integers(0, 1)
    )
)


def encode(stack):
    return [dict(code, counts=code['counts'].decode()) for code in encode_mask_results(stack)]


@settings(max_examples=200, deadline=None)
@given(masks)
def test_runs_are_those_that_pycocotools_encoded(stack):
    count, height, width = stack.shape
    runs = decode_runs(encode(stack))
    painted = np.zeros((count, height * width), np.uint8)
    painted[np.repeat(runs.owner, runs.length), runs.places()] = 1
    np.testing.assert_array_equal(painted.reshape(count, width, height).transpose(0, 2, 1), stack)
    np.testing.assert_array_equal(runs.areas(count), stack.sum(axis=(1, 2)))
    centroids = runs.centroids(count, height)
    for mask, centroid in zip(stack, centroids, strict=True):
        rows, cols = np.nonzero(mask)
        expected = [cols.mean(), rows.mean()] if len(rows) else [np.nan, np.nan]
        np.testing.assert_allclose(centroid, expected)


@settings(max_examples=100, deadline=None)
@given(masks)
def test_windows_and_encoding_are_round_trips(stack):
    count, height, width = stack.shape
    codes = encode(stack)
    assert encode_runs(decode_runs(codes), count, height, width) == codes
    for mask, code in zip(stack, codes, strict=True):
        window, x, y = decode_window(code)
        pasted = np.zeros((height, width), bool)
        pasted[y : y + window.shape[0], x : x + window.shape[1]] = window
        np.testing.assert_array_equal(pasted, mask)
        assert window.shape == (0, 0) or (window.any(axis=1)[[0, -1]].all() and window.any(axis=0)[[0, -1]].all())


def test_large_images_and_bytes():
    """Lengths above 2 ** 15 take four groups of five bits; differences below zero need the sign bit."""
    mask = np.zeros((900, 1100), np.uint8)
    mask[100:800, 1000] = mask[3, 5] = 1
    mask[:, 400:600] = 1
    code = mask_utils.encode(np.asfortranarray(mask))
    runs = decode_runs([code])
    assert runs.areas(1)[0] == mask.sum()
    assert list(runs.start) == [5 * 900 + 3, 400 * 900, 1000 * 900 + 100]


@settings(max_examples=100, deadline=None)
@given(masks, st.sampled_from([0.0, 0.5, 1.0]))
def test_painting_gives_the_first_precedence(stack, min_visible):
    count, height, width = stack.shape
    expected = np.zeros((height, width), np.int32)
    for index, mask in enumerate(stack > 0):
        free = mask & (expected == 0)
        if mask.any() and free.sum() >= min_visible * mask.sum():
            expected[free] = index + 1
    painted = paint_instances(decode_runs(encode(stack)), count, height, width, min_visible)
    np.testing.assert_array_equal(painted, expected)


def test_painting_of_fewer_is_a_part_of_painting_of_more():
    stack = (np.random.default_rng(0).random((6, 20, 20)) < 0.3).astype(np.uint8)
    runs = decode_runs(encode(stack))
    whole = paint_instances(runs, 6, 20, 20, 0.5)
    first = runs.owner < 3
    part = paint_instances(Runs(runs.owner[first], runs.start[first], runs.length[first]), 3, 20, 20, 0.5)
    np.testing.assert_array_equal(part, np.where(whole <= 3, whole, 0))


def test_no_instance():
    runs = decode_runs([])
    assert len(runs.areas(0)) == 0 and not paint_instances(runs, 0, 3, 4).any()


@pytest.mark.parametrize(
    'counts, message',
    [
        ('4!5', 'code 1: a character outside the alphabet'),
        ('4\u20ac5', 'code 1: a character outside the alphabet'),
        ('4o', 'code 1: ends within a number'),
        ('41', 'code 1: runs over 5 px in an image of 9'),
        ('', 'code 1: runs over 0 px in an image of 9'),
        ('4O40', 'code 1: a run of negative length'),
        ('o' * 20 + '1', 'code 1: a length beyond any image'),
    ],
)
def test_broken_codes_are_named(counts, message):
    good = dict(size=[3, 3], counts='45')
    assert decode_runs([good]).areas(1)[0] == 5
    with pytest.raises(ValueError, match=message):
        decode_runs([good, dict(size=[3, 3], counts=counts)])


def test_segmentations_of_any_kind():
    square = np.zeros((8, 9), np.uint8)
    square[2:5, 3:7] = 1
    code = encode(square[None])[0]
    uncompressed = dict(size=[8, 9], counts=[26, 3, 5, 3, 5, 3, 5, 3, 19])
    for segmentation in (code, uncompressed, [[3, 2, 7, 2, 7, 5, 3, 5]]):
        np.testing.assert_array_equal(mask_utils.decode(to_code(segmentation, 8, 9)), square)
