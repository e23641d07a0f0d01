import numpy as np
import pytest

from cellseg_mm.datasets.stain import channel_order, label_correlation, misplaced_labels, stain_difference
from cellseg_mm.datasets.synthetic import draw_tissue


def test_difference_in_closed_form():
    image = np.zeros((2, 4, 3), np.uint8)
    cells = np.zeros((2, 4), bool)
    cells[:, :2] = True
    image[cells] = 100, 0, 150  # R - B = -50 inside
    image[~cells] = 200, 0, 170  # and 30 outside
    assert stain_difference(image, cells) == -80
    assert stain_difference(image[..., ::-1], cells) == 80


@pytest.mark.parametrize('cells', [np.zeros((3, 3), bool), np.ones((3, 3), bool)])
def test_no_difference_without_cells_or_background(cells):
    assert stain_difference(np.zeros((3, 3, 3), np.uint8), cells) is None


def test_sign_on_drawn_tissue():
    for seed in range(5):
        image, instance_map, _ = draw_tissue(np.random.default_rng(seed), 128, 128)
        assert stain_difference(image, instance_map > 0) < -5


@pytest.mark.parametrize(
    'differences, order',
    [([-9, -9, 5, None], 'rgb'), ([9, 9, -5, None], 'bgr'), ([-9, 9], 'rgb'), ([None, 0.5], 'rgb'), ([], 'rgb')],
)
def test_majority_decides(differences, order):
    assert channel_order(differences)[0] == order


@pytest.mark.parametrize('differences', [[-9, 9], [-9, -9, 9, 9, 9], [None], [0.5]])
def test_undecided_says_so(differences):
    order, reason = channel_order(differences)
    assert order == 'rgb'
    assert reason.startswith('undecided, kept as stored')


def test_labels_that_do_not_go_with_their_image():
    """Against numpy's own correlation; of ten images the labels of one are those of another."""
    rng = np.random.default_rng(0)
    images, masks, found = [], [], []
    for _ in range(10):
        mask = np.kron(rng.random((8, 8)) < 0.3, np.ones((8, 8))) > 0
        images.append(np.where(mask[..., None], [90, 60, 150], [225, 150, 190]) + rng.integers(-9, 10, (64, 64, 3)))
        masks.append(mask)
    images = np.clip(images, 0, 255).astype(np.uint8)
    for image, mask in zip(images, masks, strict=True):
        expected = [
            np.corrcoef(values.ravel(), mask.ravel())[0, 1]
            for values in (image.sum(axis=2), image[..., 0].astype(int) - image[..., 2])
        ]
        assert label_correlation(image, mask) == pytest.approx(expected, abs=1e-4)
        found.append(label_correlation(image, mask))
    assert len(misplaced_labels(found)) == 0
    found[3] = label_correlation(images[3], masks[3][::-1, ::-1] & ~masks[3])
    found[5] = ()
    assert misplaced_labels(found).tolist() == [3] and misplaced_labels([(), ()]).tolist() == []
    assert label_correlation(images[0], masks[0] | True) == () and label_correlation(images[0], masks[0] & False) == ()
