"""Micrometres a px."""

from cellseg_mm.utils import UserError

# Sizes that microscopes have. Other resolutions are a printer's: 72 dpi are 353 micrometres.
PIXEL_SIZES = (0.02, 20)
# Pixel sizes that differ by at most this factor are the same; nothing is resampled then.
SAME_SIZE = 1.05
# By the names of units in files.
MICROMETERS = {'µm': 1, 'μm': 1, 'um': 1, 'micron': 1, 'microns': 1, '\\u00B5m': 1, 'nm': 1e-3, 'mm': 1e3, 'cm': 1e4}


def check_pixel_size(pixel_size: float) -> None:
    """Raise :class:`UserError` for a pixel size that a user gave and no microscope has."""
    smallest, largest = PIXEL_SIZES
    if not smallest <= pixel_size <= largest:
        raise UserError(f'invalid pixel size {pixel_size:g}: it must be from {smallest:g} to {largest:g} um')


def checked_pixel_size(x: float, y: float) -> float | None:
    """Micrometres a px, or None if no microscope has such pixels or they are not square."""
    smallest, largest = PIXEL_SIZES
    return x if smallest <= x <= largest and abs(x - y) <= 0.01 * x else None


def is_same_size(one: float, other: float) -> bool:
    """Whether two pixel sizes differ by a factor of at most :data:`SAME_SIZE`."""
    return max(one, other) <= SAME_SIZE * min(one, other)
