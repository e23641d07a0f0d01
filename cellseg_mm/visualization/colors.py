"""The colours of classes and of errors, RGB in 0..255."""

from matplotlib import colormaps

from cellseg_mm.evaluation.error_analysis import CORRECT, MERGED, MISSED, SPLIT, SPURIOUS, WRONG_CLASS

# Bright hues that contrast with purple and pink stains, also for the colour-blind.
CLASS_COLORS = [(0, 235, 160), (255, 240, 60), (0, 120, 255), (230, 70, 0)]
# From sparse to dense: darker and darker, so that it is read without seeing hue, too (YlOrBr of ColorBrewer).
DENSITY_COLORS = [(255, 255, 229), (254, 227, 145), (254, 153, 41), (204, 76, 2), (102, 37, 6)]
# Of errors, on tissue that is drawn nearly grey.
KIND_COLORS = {
    CORRECT: (255, 255, 255),
    WRONG_CLASS: (255, 225, 0),
    MISSED: (255, 0, 0),
    SPURIOUS: (255, 120, 0),
    MERGED: (0, 235, 255),
    SPLIT: (0, 230, 60),
}


def class_colors(num_classes: int) -> list:
    """One colour for each class: the first four hand-picked, others from matplotlib's tab20."""
    more = [tuple(round(255 * value) for value in colormaps['tab20'](index % 20)[:3]) for index in range(num_classes)]
    return [*CLASS_COLORS, *more][:num_classes]


def hex_color(color: tuple) -> str:
    """A colour for HTML, such as ``'#00eba0'``."""
    return '#{:02x}{:02x}{:02x}'.format(*color)
