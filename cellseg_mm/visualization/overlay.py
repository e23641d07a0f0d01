"""The cells of an image of any size, outlined by class, with a legend that counts them."""

from collections.abc import Sequence

import cv2
import numpy as np

from cellseg_mm.structures import Cells

from .colors import class_colors
from .draw import add_caption, outline_window

# Small images are enlarged a whole number of times, so that the outlines of 20-px cells stay separate.
MIN_SIDE = 512
MAX_ENLARGED = 1024


class Overlay:
    """A picture to which cells are added part by part.

    Args:
        image (ndarray): (H, W, 3) uint8 RGB, which is copied; or an overview, see :func:`read_overview`.
        classes (Sequence[str]): Names, in the order of the labels.
        shrink (int): Px of the cells' image to one of ``image``.
    """

    def __init__(self, image: np.ndarray, classes: Sequence, shrink: int = 1) -> None:
        enlarge = max(1, min(MIN_SIDE // min(image.shape[:2]), MAX_ENLARGED // max(image.shape[:2])))
        self._canvas = cv2.resize(image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC)
        self._scale, self._thickness = enlarge / shrink, 2 if enlarge > 1 else 1
        self._classes, self._colors = list(classes), class_colors(len(classes))
        self._counts = np.zeros(len(classes), int)

    def add(self, cells: Cells) -> None:
        """Outline some of the cells."""
        self._counts += np.bincount(cells.labels, minlength=len(self._counts))
        for (window, x, y), label in zip(cells.windows(), cells.labels, strict=True):
            outline_window(self._canvas, window, x, y, self._colors[label], self._scale, self._thickness)

    def picture(self, title: str) -> np.ndarray:
        """Return (H', W', 3) uint8 RGB: the outlines, and below them a legend that counts the cells of each class."""
        entries = [f'{name} {count:,}' for name, count in zip(self._classes, self._counts, strict=True)]
        return add_caption(self._canvas, title, entries, self._colors)


def draw_cells(image: np.ndarray, cells: Cells, classes: Sequence, title: str | None = None) -> np.ndarray:
    """Draw an image with all its cells outlined, and a legend.

    Args:
        image (ndarray): (H, W, 3) uint8 RGB.
        cells (Cells): Its cells.
        classes (Sequence[str]): Names, in the order of the labels.
        title (str | None): Title of the legend; None for the number of cells.

    Returns:
        ndarray: (H', W', 3) uint8 RGB; small images are enlarged.
    """
    overlay = Overlay(image, classes)
    overlay.add(cells)
    return overlay.picture(f'{len(cells):,} cells' if title is None else title)
