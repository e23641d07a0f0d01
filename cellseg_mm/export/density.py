"""How dense cells of each class lie over an image: counts in equal rectangles, whose sums are the counts of cells.

The counts of parts of the cells add up, so that a stream of cells needs the memory of the rectangles alone.
"""

import numpy as np

MIN_SIDE = 128  # px a side of the rectangles, at least
MAX_RECTANGLES = 128  # along a side of the image


def density_grid(height: int, width: int) -> tuple:
    """Rows and columns of the equal, nearly square rectangles into which an image is divided.

    Args:
        height (int): Of the image, px.
        width (int): The same.

    Returns:
        tuple[int]: R rows, Q columns, at least one of each.
    """
    side = max(MIN_SIDE, max(height, width) / MAX_RECTANGLES)
    return max(1, round(height / side)), max(1, round(width / side))


def count_by_place(centroids: np.ndarray, labels: np.ndarray, num_classes: int, height: int, width: int) -> np.ndarray:
    """Count the cells of each class in each rectangle of :func:`density_grid`.

    Args:
        centroids (ndarray): (N, 2) x, y in px from the image's upper left corner.
        labels (ndarray): (N,) class indices.
        num_classes (int): C.
        height (int): Of the image, px.
        width (int): The same.

    Returns:
        ndarray: (C, R, Q) int64.
    """
    shape = num_classes, *density_grid(height, width)
    place = (np.asarray(centroids) * (shape[2] / width, shape[1] / height)).astype(np.int64)
    column, row = np.clip(place, 0, (shape[2] - 1, shape[1] - 1)).T
    flat = np.ravel_multi_index((labels, row, column), shape)
    return np.bincount(flat, minlength=np.prod(shape)).reshape(shape)


def density_per_area(counts: np.ndarray, height: int, width: int, pixel_size: float | None) -> np.ndarray:
    """Counts in rectangles as densities.

    Args:
        counts (ndarray): (..., R, Q) of an image, see :func:`count_by_place`.
        height (int): Of the image, px.
        width (int): The same.
        pixel_size (float | None): Micrometres a px.

    Returns:
        ndarray: (..., R, Q) float64, cells per square millimetre, or per 10^6 px if the pixel size is unknown.
    """
    area = height * width / (counts.shape[-2] * counts.shape[-1]) * (pixel_size or 1) ** 2 / 1e6
    return counts / area


def density_unit(counts: np.ndarray, height: int, width: int, pixel_size: float | None) -> str:
    """The unit of :func:`density_per_area`, and the size of the rectangles, in words."""
    sides = height / counts.shape[-2], width / counts.shape[-1]
    side = (sides[0] * sides[1]) ** 0.5 * (pixel_size or 1)
    unit, length = ('mm²', 'µm') if pixel_size else ('megapixel', 'px')
    return f'cells per {unit}, in squares of {side:.3g} {length}'
