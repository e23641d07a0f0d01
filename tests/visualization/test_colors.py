import itertools

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from cellseg_mm.visualization.colors import CLASS_COLORS, DENSITY_COLORS, class_colors

# What people without one kind of cones see, in linear RGB: Machado et al., IEEE Trans. Vis. Comput. Graph. 15 (2009)
# 1291-1298, severity 1.
SIGHTS = dict(
    all_cones=np.eye(3),
    protanopia=[[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    deuteranopia=[[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    tritanopia=[[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
)
TISSUE = [(120, 70, 150), (90, 60, 150), (225, 160, 200), (200, 120, 170), (240, 240, 240)]


def seen(colors: list, sight: str) -> np.ndarray:
    """(N, 3) CIELAB of 8-bit sRGB colours."""
    values = np.array(colors) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.array(SIGHTS[sight]).T).clip(0, 1)
    return rgb2lab(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)[None])[0]


@pytest.mark.parametrize('sight', SIGHTS)
def test_the_first_classes_differ_for_everyone_and_from_tissue(sight):
    """A difference of 10 is plain at a glance."""
    classes, tissue = seen(CLASS_COLORS, sight), seen(TISSUE, sight)
    assert min(deltaE_ciede2000(one, other) for one, other in itertools.combinations(classes, 2)) > 15
    assert min(deltaE_ciede2000(one, other) for one in classes for other in tissue) > 12


@pytest.mark.parametrize('sight', SIGHTS)
def test_denser_is_darker_for_everyone(sight):
    lightness = seen(DENSITY_COLORS, sight)[:, 0]
    assert (np.diff(lightness) < -5).all()


def test_each_class_has_its_colour():
    colors = class_colors(20)
    assert colors[:4] == CLASS_COLORS and len(set(colors)) == 20
