import numpy as np
import pytest

from cellseg_mm.visualization.colors import DENSITY_COLORS, class_colors
from cellseg_mm.visualization.density_plot import heat_over, plot_density


def test_heat_covers_what_is_dense_and_leaves_the_rest_grey():
    image = np.full((84, 126, 3), (200, 100, 150), np.uint8)
    density = np.zeros((4, 6))
    density[1, 4], density[2, 1] = 10, 5
    picture = heat_over(image, density).astype(int)
    assert np.ptp(picture[74, 110]) == 0 and picture[74, 110, 0] > 150  # paler than the image
    assert picture[31, 94] == pytest.approx(0.85 * np.array(DENSITY_COLORS[-1]) + 0.15 * 202.5, abs=3)
    assert picture[52, 31] == pytest.approx(0.85 * np.array(DENSITY_COLORS[2]) + 0.15 * 202.5, abs=3)
    assert np.ptp(heat_over(image, np.zeros((4, 6))), axis=2).max() == 0


def test_each_class_has_a_scale_and_a_bar_with_its_count():
    density = np.zeros((3, 2, 2))
    density[0, 0, 1], density[1, 1, 1] = 1234, 7
    image = np.full((30, 40, 3), 255, np.uint8)
    figure = plot_density(image, density, [1500, 500, 0], ['a', 'b', '$c$'], 'an image', 'cells per mm²')
    figure.draw_without_rendering()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:5] == ['image', 'a', 'b', '$c$', 'cells']
    bars = figure.axes[4]
    assert [round(bar.get_width()) for bar in bars.patches] == [1500, 500, 0]
    assert [text.get_text() for text in bars.texts] == ['1,500 (75.0 %)', '500 (25.0 %)', '0 (0.0 %)']
    assert np.allclose([bar.get_facecolor()[:3] for bar in bars.patches], np.divide(class_colors(3), 255))
    scales = [axes for axes in figure.axes if axes.get_xlabel() == 'cells per mm²']
    assert [axes.get_xlim() for axes in scales] == [(0, 1234), (0, 7)]
    assert figure.axes[3].get_xlabel() == 'no cells'
