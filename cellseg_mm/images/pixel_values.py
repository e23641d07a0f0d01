"""Stored values of any depth as 8-bit RGB."""

import itertools
import math
from collections.abc import Iterator

import numpy as np

# Statistics of an image are those of so many windows along a side, of so many px: all of it up to 4096 px.
SAMPLES = 8
SAMPLE_SIDE = 512


def sample_windows(height: int, width: int) -> Iterator:
    """(x, y, width, height) in px of 64 windows spread evenly over an image, or of the whole of a smaller one."""
    ends = []
    for length in (width, height):
        side, count = min(SAMPLE_SIDE, length), min(SAMPLES, math.ceil(length / SAMPLE_SIDE))
        ends.append((np.linspace(0, length - side, count).astype(int).tolist(), side))
    (xs, width), (ys, height) = ends
    for y, x in itertools.product(ys, xs):
        yield x, y, width, height


def full_scale(dtype: np.dtype, bits: int, smallest: float, largest: float) -> float:
    """The stored value that becomes 255, one an image.

    Cameras of 10, 12 or 14 bits write 16-bit files, so of these the fewest bits count that hold the largest value: it
    becomes 255, 1,023, 4,095, 16,383 or 65,535. Floats are 0..1 if none is above 1, else the same.

    Args:
        dtype (dtype): Of the stored values.
        bits (int): A value.
        smallest (float): Value of the image.
        largest (float): Likewise.

    Raises:
        ValueError: For values that are negative, nan or above 65,535.
    """
    if dtype.kind in 'bu' and bits <= 8:
        return 2**bits - 1
    if not (smallest >= 0 and largest < 2**16):  # nan is neither
        raise ValueError(f'its values go from {smallest:g} to {largest:g}; 0 to 65535 without nan are needed')
    if dtype.kind == 'f' and largest <= 1:
        return 1
    return next(2**count - 1 for count in (8, 10, 12, 14, 16) if largest <= 2**count - 1)


def to_rgb(values: np.ndarray, scale: float) -> np.ndarray:
    """Stored values as an image.

    Args:
        values (ndarray): (H, W, C): C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. Alpha is dropped.
        scale (float): See :func:`full_scale`; larger values become 255.

    Returns:
        ndarray: (H, W, 3) uint8.
    """
    colors = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
    if colors.dtype != np.uint8 or scale != 255:
        colors = np.rint(np.minimum(colors.astype(np.float32) * np.float32(255 / scale), 255)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colors, (*colors.shape[:2], 3)))


def describe_values(channels: int, dtype: np.dtype, bits: int, scale: float) -> str:
    """What :func:`to_rgb` makes of values that are not plain 8-bit RGB, in words."""
    kind = 'bit float' if dtype.kind == 'f' else 'bit'
    return join_notes(
        'grey, taken for red, green and blue' if channels < 3 else '',
        'alpha dropped' if channels in (2, 4) else '',
        f'{bits} {kind}, {scale:g} becomes 255' if bits > 8 else '',
    )


def join_notes(*notes: str) -> str:
    """Those that say something, in one line."""
    return '; '.join(note for note in notes if note)
