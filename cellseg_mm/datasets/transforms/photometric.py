"""Photometric augmentations on uint8 BGR images, as mmcv loads them: those of the course report, and of stain.

Those of the report are defined as in torchvision (its documentation of ``torchvision.transforms``), rounding to uint8
after each step.
"""

from abc import abstractmethod

import cv2
import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS
from skimage.color import hed_from_rgb, rgb_from_hed

from .base import RandomTransform

LEVELS = np.arange(256, dtype=np.float64)
# optical density (log10) of each level; 0 counts as half a level, for its logarithm is infinite
DENSITIES = -np.log10(np.maximum(LEVELS, 0.5) / 255)


def _table(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _grey(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8 luma, 0.299 R + 0.587 G + 0.114 B."""
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """``factor * image``. (H, W, 3) uint8 BGR."""
    return cv2.LUT(image, _table(factor * LEVELS))


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """``factor * image + (1 - factor) * mean``, the mean that of the image's luma. (H, W, 3) uint8 BGR."""
    return cv2.LUT(image, _table(factor * LEVELS + (1 - factor) * _grey(image).mean()))


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """``factor * image + (1 - factor) * luma`` of each pixel. (H, W, 3) uint8 BGR."""
    grey = cv2.cvtColor(_grey(image), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0)


def adjust_hue(image: np.ndarray, shift: float) -> np.ndarray:
    """Hue turned by ``shift`` of the circle, -0.5 to 0.5, in steps of 1/256. (H, W, 3) uint8 BGR."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL)
    hsv[..., 0] += np.uint8(round(shift * 256) % 256)  # wraps round, as hue does
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL)


def adjust_gamma(image: np.ndarray, gamma: float) -> np.ndarray:
    """``255 * (image / 255) ** gamma``. (H, W, 3) uint8."""
    return cv2.LUT(image, _table(255 * (LEVELS / 255) ** gamma))


def add_gaussian_noise(image: np.ndarray, std: float, seed: int) -> np.ndarray:
    """Independent noise of standard deviation ``std * 255`` on each value. (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
    noise *= np.float32(std * 255)
    noise += image
    return np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)


def blur(image: np.ndarray, kernel_size: int, sigma: float) -> np.ndarray:
    """Gaussian blur, reflected at the border. (H, W, 3) uint8."""
    return cv2.GaussianBlur(image, (kernel_size, kernel_size), sigma, borderType=cv2.BORDER_REFLECT_101)


def adjust_stains(image: np.ndarray, factors: tuple, shifts: tuple) -> np.ndarray:
    """Amounts of haematoxylin and eosin, each times its factor, plus its shift. (H, W, 3) uint8 BGR.

    The optical density (log10) of a pixel is the sum of its stains' amounts times their vectors of length 1, which are
    those of Ruifrok and Johnston (Analytical and Quantitative Cytology and Histology 23 (2001) 291-299) as scikit-image
    has them, with DAB as the third stain, whose amount stays. Unlike ``skimage.color.rgb2hed``, negative amounts are
    kept, so that factors of 1 and shifts of 0 return the image.

    Example:
        A pixel of 0.3 haematoxylin and 0.2 eosin, with factors (2, 0.5) and shifts (0.1, 0), becomes one of 0.7
        and 0.1.
    """
    scaled = hed_from_rgb @ np.diag([*factors, 1]) @ rgb_from_hed  # optical densities of red, green and blue are rows
    shift = np.array([*shifts, 0]) @ rgb_from_hed
    densities = cv2.LUT(image, DENSITIES.astype(np.float32))
    # cv2.transform multiplies columns: transposed; both axes reversed for BGR
    densities = cv2.transform(densities, np.hstack([scaled.T, shift[:, None]])[::-1, [2, 1, 0, 3]].astype(np.float32))
    light = cv2.exp(densities * np.float32(-np.log(10)))
    light *= 255
    return np.clip(np.rint(light, out=light), 0, 255, out=light).astype(np.uint8)


class RandomPhotometricStep(RandomTransform):
    """Change only the image; geometry and annotations stay.

    Required and Modified Keys:

    - img (np.uint8)
    """

    @abstractmethod
    def adjust(self, image: np.ndarray) -> np.ndarray:
        """The image, (H, W, 3) uint8 BGR, changed by random parameters."""

    def apply(self, results: dict) -> None:
        """Change ``img``."""
        results['img'] = self.adjust(results['img'])


@TRANSFORMS.register_module()
class ColorJitter(RandomPhotometricStep):
    """Brightness, contrast, saturation and hue, each by a random amount, in random order.

    Args:
        brightness (float): Factor uniform in 1 +- this.
        contrast (float): Factor uniform in 1 +- this.
        saturation (float): Factor uniform in 1 +- this.
        hue (float): Shift uniform in +- this, in turns of the hue circle.
        prob (float): Probability of acting.
    """

    def __init__(
        self,
        brightness: float = 0.3,
        contrast: float = 0.3,
        saturation: float = 0.3,
        hue: float = 0.15,
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue

    @cache_randomness
    def draw_amounts(self) -> list:
        """(function, amount) of the four steps, in random order."""
        steps = [
            (adjust_brightness, 1 + np.random.uniform(-self.brightness, self.brightness)),
            (adjust_contrast, 1 + np.random.uniform(-self.contrast, self.contrast)),
            (adjust_saturation, 1 + np.random.uniform(-self.saturation, self.saturation)),
            (adjust_hue, np.random.uniform(-self.hue, self.hue)),
        ]
        return [steps[index] for index in np.random.permutation(4)]

    def adjust(self, image: np.ndarray) -> np.ndarray:
        """See the class."""
        for function, amount in self.draw_amounts():
            image = function(image, amount)
        return image


@TRANSFORMS.register_module()
class StainJitter(RandomPhotometricStep):
    """More or less haematoxylin and eosin, each by random amounts, after Tellez et al. (arXiv:1808.05896).

    Args:
        factor (float): Each stain's amount is multiplied by a factor uniform in 1 +- this.
        shift (float): A value uniform in +- this is added to each stain's amount, in optical density (log10).
        prob (float): Probability of acting.
    """

    def __init__(self, factor: float = 0.3, shift: float = 0.05, prob: float = 1.0) -> None:
        super().__init__(prob)
        self.factor = factor
        self.shift = shift

    @cache_randomness
    def draw_amounts(self) -> tuple:
        """Factors and shifts of haematoxylin and eosin."""
        factors = np.random.uniform(1 - self.factor, 1 + self.factor, 2)
        return tuple(factors), tuple(np.random.uniform(-self.shift, self.shift, 2))

    def adjust(self, image: np.ndarray) -> np.ndarray:
        """See :func:`adjust_stains`."""
        return adjust_stains(image, *self.draw_amounts())


@TRANSFORMS.register_module()
class RandomGaussianNoise(RandomPhotometricStep):
    """Gaussian noise.

    Args:
        std (float): Standard deviation, relative to the range of the values.
        prob (float): Probability of acting.
    """

    def __init__(self, std: float = 0.02, prob: float = 0.2) -> None:
        super().__init__(prob)
        self.std = std

    @cache_randomness
    def draw_seed(self) -> int:
        """Seed of the noise."""
        return int(np.random.randint(2**31))

    def adjust(self, image: np.ndarray) -> np.ndarray:
        """See :func:`add_gaussian_noise`."""
        return add_gaussian_noise(image, self.std, self.draw_seed())


@TRANSFORMS.register_module()
class RandomGaussianBlur(RandomPhotometricStep):
    """Gaussian blur.

    Args:
        kernel_size (int): Odd, in px.
        sigma_range (tuple[float]): Standard deviation in px, uniform in this range.
        prob (float): Probability of acting.
    """

    def __init__(self, kernel_size: int = 3, sigma_range: tuple = (0.1, 1.0), prob: float = 0.2) -> None:
        super().__init__(prob)
        self.kernel_size = kernel_size
        self.sigma_range = sigma_range

    @cache_randomness
    def draw_sigma(self) -> float:
        """In px."""
        return np.random.uniform(*self.sigma_range)

    def adjust(self, image: np.ndarray) -> np.ndarray:
        """See :func:`blur`."""
        return blur(image, self.kernel_size, self.draw_sigma())


@TRANSFORMS.register_module()
class RandomGamma(RandomPhotometricStep):
    """Gamma correction.

    Args:
        gamma_range (tuple[float]): Exponent, uniform in this range.
        prob (float): Probability of acting.
    """

    def __init__(self, gamma_range: tuple = (0.8, 1.2), prob: float = 0.3) -> None:
        super().__init__(prob)
        self.gamma_range = gamma_range

    @cache_randomness
    def draw_gamma(self) -> float:
        """The exponent."""
        return np.random.uniform(*self.gamma_range)

    def adjust(self, image: np.ndarray) -> np.ndarray:
        """See :func:`adjust_gamma`."""
        return adjust_gamma(image, self.draw_gamma())
