import numpy as np
import pytest

from cellseg_mm.datasets.splits import stratified_split


@pytest.fixture
def counts():
    rng = np.random.default_rng(3)
    return rng.poisson([60, 70, 3, 3], (209, 4)) * rng.integers(0, 2, (209, 4))


def test_size_and_stability(counts):
    split = stratified_split(counts, 0.2, seed=0)
    assert split.sum() == 42
    assert np.array_equal(split, stratified_split(counts, 0.2, seed=0))
    assert not np.array_equal(split, stratified_split(counts, 0.2, seed=1))


def test_every_class_gets_its_share(counts):
    share = counts[stratified_split(counts, 0.2, seed=0)].sum(axis=0) / counts.sum(axis=0)
    assert np.abs(share - 0.2).max() < 0.02
    plain = np.random.default_rng(0).permutation(209)[:42]
    assert np.abs(counts[plain].sum(axis=0) / counts.sum(axis=0) - 0.2).max() > 0.02  # a plain draw does not do it


def test_a_class_in_one_image_is_trained_on():
    counts = np.tile([10, 0], (20, 1))
    counts[7, 1] = 5
    assert all(not stratified_split(counts, 0.2, seed)[7] for seed in range(5))


@pytest.mark.parametrize('fraction', [0.001, 0.999])
def test_no_side_is_empty(fraction):
    assert 0 < stratified_split(np.ones((3, 1), int), fraction, 0).sum() < 3


def test_images_without_any_cell():
    assert stratified_split(np.zeros((10, 4), int), 0.3, 0).sum() == 3
