from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .colors import DENSITY_COLORS, class_colors

DENSITIES = LinearSegmentedColormap.from_list('density', np.divide(DENSITY_COLORS, 255))
COLUMNS, PANEL = 3, 4.0  # panels in a row; the width of one in inches


def plot_density(
    thumbnail: np.ndarray, density: np.ndarray, counts: Sequence, classes: Sequence, title: str, unit: str
) -> Figure:
    """Plot an image, the density of each class over it, each with a scale of its own, and a bar for each count.

    Args:
        thumbnail (ndarray): (H, W, 3) uint8 RGB.
        density (ndarray): (C, R, Q) of each class in equal rectangles of the image.
        counts (Sequence[int]): Cells of each class.
        classes (Sequence[str]): C names.
        title (str): Above all.
        unit (str): Of the densities.
    """
    panels = len(classes) + 2
    columns = min(COLUMNS, panels)
    rows = -(-panels // columns)
    aspect = np.clip(thumbnail.shape[0] / thumbnail.shape[1], 0.35, 1.6)
    with rc_context({'text.parse_math': False}):  # names are not mathematics
        figure = Figure(figsize=(PANEL * columns, 0.4 + rows * (PANEL * aspect + 0.9)), layout='constrained')
        figure.suptitle(title)
        first, *others = figure.subplots(rows, columns, squeeze=False).flat
        first.imshow(thumbnail)
        first.set_title('image')
        for axes, own, name in zip(others, density, classes, strict=False):
            axes.imshow(heat_over(thumbnail, own))
            axes.set_title(name)
            if own.any():
                scale = ScalarMappable(Normalize(0, own.max()), DENSITIES)
                bar = figure.colorbar(scale, ax=axes, location='bottom', label=unit, ticks=MaxNLocator(4))
                bar.formatter = '{x:,.6g}'
            else:
                axes.set_xlabel('no cells')
        _draw_counts(others[len(classes)], counts, classes)
        for axes in others[len(classes) + 1 :]:
            axes.set_axis_off()
        for axes in (first, *others[: len(classes)]):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_anchor('N')
    return figure


def heat_over(image: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Colour a pale grey image by how dense cells lie; where there are no cells it stays grey.

    Args:
        image (ndarray): (H, W, 3) uint8 RGB.
        density (ndarray): (R, Q) in equal rectangles of the image; its largest value has the strongest colour.

    Returns:
        ndarray: (H, W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    share = cv2.resize(density / (density.max() or 1), (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    grey = 255 - 0.5 * (255 - image.mean(axis=2, keepdims=True))
    opacity = 0.85 * np.minimum(1, 6 * share)  # colours stand for numbers, so they soon cover the image
    return np.rint(grey * (1 - opacity) + 255 * DENSITIES(share[..., 0])[..., :3] * opacity).astype(np.uint8)


def _draw_counts(axes: Axes, counts: Sequence, classes: Sequence) -> None:
    """A bar a class, the first one on top, with its count and share."""
    places, total = range(len(classes)), sum(counts)
    colors = np.divide(class_colors(len(classes)), 255)
    bars = axes.barh(places, counts, color=colors, edgecolor='0.2')
    axes.bar_label(bars, [f'{n:,} ({100 * n / total:.1f} %)' if total else '0' for n in counts], padding=4)
    axes.set_yticks(places, classes)
    axes.set_xlim(0, 1.45 * max(*counts, 1))
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.set_title('cells')
    axes.spines[['top', 'right', 'bottom']].set_visible(False)
