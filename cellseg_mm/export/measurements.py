"""Measurements of each cell: position, shape and stain."""

from collections.abc import Iterator

import numpy as np
from skimage.color import rgb2hed
from skimage.measure import regionprops

from cellseg_mm.structures import Cells

# Cells are read and measured in squares of this many px a side, so memory holds one square and its cells.
BLOCK = 1024
# rgb2hed divides optical densities by that of its least intensity, 1e-6, whose log10 is -6.
DENSITY_SCALE = 6
SHAPES = ('perimeter', 'eccentricity', 'solidity')
COLORS = ('hematoxylin_od', 'eosin_od', 'intensity')


def measure_cells(cells: Cells, source: object, pixel_size: float | None = None) -> dict:
    """Position, shape and colour of each cell.

    Area, perimeter, eccentricity and solidity are those of :func:`skimage.measure.regionprops`. So is the centroid, but
    in px from the image's upper left corner, where the centre of the first pixel is (0.5, 0.5): it is the centroid of
    the polygon of :func:`trace_outlines`, and of QuPath. ``hematoxylin_od`` and ``eosin_od`` are what each stain adds
    to the optical density (log10), as means over the cell, by colour deconvolution with the stain vectors of Ruifrok
    and Johnston, Analytical and Quantitative Cytology and Histology 23 (2001) 291-299, from
    :func:`skimage.color.rgb2hed`. ``intensity`` is the mean of red, green and blue, 0..255.

    Args:
        cells (Cells): N cells.
        source (object): The image: ``read(x, y, width, height)`` gives a window of it, (height, width, 3) uint8 RGB.
        pixel_size (float | None): Micrometres a px, None if unknown.

    Returns:
        dict[str, ndarray]: (N,) float64 each: centroid_x_px, centroid_y_px, area_px, perimeter_px; with a pixel size
        centroid_x_um, centroid_y_um, area_um2, perimeter_um; eccentricity, solidity, hematoxylin_od, eosin_od,
        intensity. A cell without a pixel has an area of 0 and nan elsewhere.
    """
    area = cells.areas().astype(np.float64)
    centroid_x, centroid_y = cells.centroids().T
    measured = {name: np.full(len(cells), np.nan) for name in (*SHAPES, *COLORS)}
    for index in _blocks(cells.boxes()):
        for name, values in _measure_block(cells.select(index), source).items():
            measured[name][index] = values
    perimeter = measured.pop('perimeter')
    sizes = dict(centroid_x_px=centroid_x, centroid_y_px=centroid_y, area_px=area, perimeter_px=perimeter)
    if pixel_size:
        sizes.update(
            centroid_x_um=centroid_x * pixel_size,
            centroid_y_um=centroid_y * pixel_size,
            area_um2=area * pixel_size**2,
            perimeter_um=perimeter * pixel_size,
        )
    return sizes | measured


def _blocks(boxes: np.ndarray) -> Iterator:
    """Indices of the cells whose boxes (N, 4) begin in a square of the image, square by square; no empty cells."""
    filled = np.flatnonzero(boxes[:, 2] > boxes[:, 0])
    square = boxes[filled, 0] // BLOCK + (boxes[filled, 1] // BLOCK << 32)
    filled = filled[np.argsort(square, kind='stable')]
    _, counts = np.unique(square, return_counts=True)
    end = np.cumsum(counts)
    yield from (filled[first:last] for first, last in zip(end - counts, end, strict=True))


def _measure_block(cells: Cells, source: object) -> dict:
    """SHAPES and COLORS of N cells that lie near each other, from one window of the image."""
    boxes = cells.boxes()
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    image = source.read(left, top, right - left, bottom - top)
    windows, inside = [], np.zeros(image.shape[:2], bool)
    for window, x, y in cells.windows():
        place = np.s_[y - top : y - top + window.shape[0], x - left : x - left + window.shape[1]]
        inside[place] |= window
        windows.append((window, place))
    # only the pixels of cells: they are few, and colour deconvolution is slow
    pixels = image[inside]
    colors = np.zeros(image.shape)
    colors[inside, :2] = rgb2hed(pixels)[:, :2] * DENSITY_SCALE
    colors[inside, 2] = pixels.mean(axis=1)
    regions = [regionprops(window.view(np.uint8), colors[place])[0] for window, place in windows]
    # property by property over all regions: a tenth faster than region by region
    perimeter, solidity, means = (
        np.array([region[name] for region in regions]) for name in ('perimeter', 'solidity', 'intensity_mean')
    )
    return dict(zip((*SHAPES, *COLORS), (perimeter, _eccentricities(cells), solidity, *means.T), strict=True))


def _eccentricities(cells: Cells) -> np.ndarray:
    """(N,) eccentricities of the ellipses that have the cells' second moments.

    Computed from the runs of all cells at once. regionprops gives the same, but takes half as long for this as for all
    the rest.
    """
    owner, start, length = cells.runs.split_at_columns(cells.height)
    x, y = np.divmod(start, cells.height) - cells.runs.centroids(len(cells), cells.height)[owner].T
    y += (length - 1) / 2
    area = cells.areas()
    of_run = (x * x, y * y + (length**2 - 1) / 12, x * y)
    xx, yy, xy = (np.bincount(owner, length * moment, len(cells)) / area for moment in of_run)
    # the eigenvalues of the covariance matrix are half of sum + difference and of sum - difference
    difference = np.hypot(xx - yy, 2 * xy)
    longest = xx + yy + difference
    return np.sqrt(np.divide(2 * difference, longest, out=np.zeros(len(cells)), where=longest > 0))
