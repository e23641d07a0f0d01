import colorsys

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import hed2rgb

from cellseg_mm.datasets.transforms import (
    ColorJitter,
    RandomGamma,
    RandomGaussianBlur,
    RandomGaussianNoise,
    StainJitter,
)
from cellseg_mm.datasets.transforms.photometric import (
    add_gaussian_noise,
    adjust_brightness,
    adjust_contrast,
    adjust_gamma,
    adjust_hue,
    adjust_saturation,
    adjust_stains,
    blur,
)

DRAWS = 10_000


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (24, 31, 3)).astype(np.uint8)


def luma(image):
    return image @ [0.114, 0.587, 0.299]  # BGR


def rounded(values):
    return np.clip(np.rint(values), 0, 255)


def assert_close(found, expected, levels=1.01):
    assert found.dtype == np.uint8
    assert np.abs(found.astype(float) - expected).max() <= levels


@pytest.mark.parametrize('factor', [0.7, 1.0, 1.3])
def test_brightness_contrast_saturation(image, factor):
    assert_close(adjust_brightness(image, factor), rounded(image * factor), 0)
    assert_close(adjust_contrast(image, factor), rounded(factor * image + (1 - factor) * luma(image).mean()))
    assert_close(adjust_saturation(image, factor), rounded(factor * image + (1 - factor) * luma(image)[..., None]))


@pytest.mark.parametrize('gamma', [0.8, 1.0, 1.2])
def test_gamma(image, gamma):
    assert_close(adjust_gamma(image, gamma), rounded(255 * (image / 255) ** gamma), 0)


@pytest.mark.parametrize('shift', [-0.15, 0.0, 0.15, 0.5])
def test_hue_against_colorsys(shift):
    # saturated colours, for hue is ill-defined near grey and 8 bits are coarse there
    rng = np.random.default_rng(1)
    colours = [colorsys.hsv_to_rgb(h, s, v) for h, s, v in rng.uniform([0, 0.5, 0.5], 1, (200, 3))]
    image = np.rint(255 * np.array(colours)[None, :, ::-1]).astype(np.uint8)
    expected = []
    for blue, green, red in image[0] / 255:
        h, s, v = colorsys.rgb_to_hsv(red, green, blue)
        expected.append(colorsys.hsv_to_rgb((h + shift) % 1, s, v)[::-1])
    assert_close(adjust_hue(image, shift), 255 * np.array(expected)[None], 9)  # 1/256 of the circle is 6 levels


def stained(amounts):
    """(1, N, 3) uint8 BGR of (N, 3) amounts of three stains by scikit-image, whose unit is a density of six."""
    return np.rint(255 * hed2rgb(amounts[None] / 6)).astype(np.uint8)[..., ::-1]


def test_stains_against_scikit_image():
    amounts = np.random.default_rng(2).uniform([0, 0, 0], [0.6, 0.5, 0.1], (200, 3))
    expected = amounts * (1.3, 0.6, 1) + (0.05, 0.1, 0)
    found = adjust_stains(np.ascontiguousarray(stained(amounts)), (1.3, 0.6), (0.05, 0.1))
    assert_close(found, stained(expected).astype(float), 3)  # 8 bits of dark pixels, stretched
    worked = np.array([[0.3, 0.2, 0], [0.7, 0.1, 0]])  # the docstring's example
    assert_close(adjust_stains(stained(worked[:1]), (2, 0.5), (0.1, 0)), stained(worked[1:]).astype(float), 2)


def test_unchanged_stains_are_the_image(image):
    image[0, :4] = [[0, 0, 0], [255, 255, 255], [0, 255, 0], [255, 0, 1]]
    assert np.array_equal(adjust_stains(image, (1, 1), (0, 0))[1:], image[1:])
    assert_close(adjust_stains(image, (1, 1), (0, 0)), image, 1)  # 0 counts as half a level
    white = np.full((2, 2, 3), 255, np.uint8)
    assert np.array_equal(adjust_stains(white, (1.5, 0.2), (0, 0)), white)  # no stain, whatever the factors


def test_noise_has_the_deviation_and_the_seed_decides():
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = add_gaussian_noise(grey, 0.02, 7).astype(float) - 128
    assert noise.std() == pytest.approx(0.02 * 255, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.05)
    assert np.array_equal(noise + 128, add_gaussian_noise(grey, 0.02, 7))
    assert not np.array_equal(noise + 128, add_gaussian_noise(grey, 0.02, 8))
    assert add_gaussian_noise(np.full((9, 9, 3), 255, np.uint8), 0.5, 0).max() == 255  # clipped, not wrapped


@pytest.mark.parametrize('sigma', [0.3, 1.0])
def test_blur_against_a_direct_convolution(image, sigma):
    weights = np.exp(-0.5 * (np.array([-1, 0, 1]) / sigma) ** 2)
    weights /= weights.sum()
    expected = image.astype(float)
    for axis in (0, 1):
        expected = ndimage.correlate1d(expected, weights, axis=axis, mode='mirror')
    assert_close(blur(image, 3, sigma), expected, 1.6)


@pytest.mark.parametrize(
    'transform, prob',
    [
        (ColorJitter(), 1.0),
        (StainJitter(prob=0.4), 0.4),
        (RandomGaussianNoise(), 0.2),
        (RandomGaussianBlur(), 0.2),
        (RandomGamma(), 0.3),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, float) else None,
)
def test_probabilities(transform, prob):
    np.random.seed(0)
    transform.adjust = lambda image: None
    hits = sum(transform(dict(img=1))['img'] is None for _ in range(DRAWS))
    assert hits / DRAWS == pytest.approx(prob, abs=0.015)


def assert_uniform(values, low, high):
    assert low <= min(values) and max(values) <= high
    spread = high - low
    quantiles = np.array([0.1, 0.5, 0.9])
    assert np.quantile(values, quantiles) == pytest.approx(low + spread * quantiles, abs=0.02 * spread)


def test_ranges_and_the_order_of_the_jitter():
    np.random.seed(0)
    jitter, gamma, gaussian = ColorJitter(), RandomGamma(), RandomGaussianBlur()
    amounts, first = {}, []
    for _ in range(DRAWS):
        steps = jitter.draw_amounts()
        first.append(steps[0][0])
        for function, amount in steps:
            amounts.setdefault(function, []).append(amount)
    for function in (adjust_brightness, adjust_contrast, adjust_saturation):
        assert_uniform(amounts[function], 0.7, 1.3)
        assert first.count(function) / DRAWS == pytest.approx(0.25, abs=0.015)
    assert_uniform(amounts[adjust_hue], -0.15, 0.15)
    stain_jitter = StainJitter(0.4, 0.1)
    factors, shifts = np.moveaxis([stain_jitter.draw_amounts() for _ in range(DRAWS)], 1, 0)
    for stain in (0, 1):  # haematoxylin and eosin
        assert_uniform(factors[:, stain], 0.6, 1.4)
        assert_uniform(shifts[:, stain], -0.1, 0.1)
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.05
    assert_uniform([gamma.draw_gamma() for _ in range(DRAWS)], 0.8, 1.2)
    assert_uniform([gaussian.draw_sigma() for _ in range(DRAWS)], 0.1, 1.0)


def test_jitter_applies_its_steps_in_the_drawn_order(image):
    jitter = ColorJitter()
    jitter.draw_amounts = lambda: [(adjust_contrast, 1.3), (adjust_brightness, 0.7)]
    assert np.array_equal(jitter.adjust(image), adjust_brightness(adjust_contrast(image, 1.3), 0.7))
