"""Stored values of any depth as 8-bit RGB."""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cellseg_mm.utils import UserError

# Statistics of an image come from at most so many windows along a side, each of so many px: the whole image up to
# 4096 px.
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


def sampled_scale(path: Path, read: Callable, height: int, width: int, dtype: np.dtype, bits: int) -> float:
    """:func:`full_scale` of a file that is read by windows, see :func:`sample_windows`.

    Args:
        path (Path): The file, for messages.
        read (Callable): Takes x, y, width and height of a window in px, and gives its stored values.
        height (int): Of the image in px.
        width (int): Of the image in px.
        dtype (dtype): Type of the stored values.
        bits (int): Bits of a value.

    Raises:
        UserError: See :func:`full_scale`.
    """
    smallest = largest = 0
    if dtype.kind not in 'bu' or bits > 8:
        windows = [read(*window) for window in sample_windows(height, width)]
        smallest, largest = np.min([part.min() for part in windows]), np.max([part.max() for part in windows])
    try:
        return full_scale(dtype, bits, smallest, largest)
    except ValueError as error:
        raise UserError(f'{path}: {error}') from error


def full_scale(dtype: np.dtype, bits: int, smallest: float, largest: float) -> float:
    """The stored value of an image that becomes 255.

    Cameras of 10, 12 or 14 bits write 16-bit files. Therefore the result is the smallest of 255, 1,023, 4,095, 16,383
    and 65,535 that is not below the largest value. For floats of at most 1 it is 1.

    Args:
        dtype (dtype): Type of the stored values.
        bits (int): Bits of a value.
        smallest (float): The smallest value of the image.
        largest (float): Its largest value.

    Raises:
        ValueError: For values that are negative, nan or above 65,535.
    """
    if dtype.kind == 'b':
        return 1
    if dtype.kind == 'u' and bits <= 8:
        return 2**bits - 1
    if not (smallest >= 0 and largest < 2**16):  # false for nan
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


def describe_values(channels: int, dtype: np.dtype, bits: int, scale: float, has_alpha: bool = True) -> str:
    """How :func:`to_rgb` converts values that are not plain 8-bit RGB, in words.

    Args:
        channels (int): See :func:`to_rgb`.
        dtype (dtype): See :func:`full_scale`.
        bits (int): See :func:`full_scale`.
        scale (float): See :func:`full_scale`.
        has_alpha (bool): Whether the last of 2 or 4 channels is known to be alpha.
    """
    kind = 'bit float' if dtype.kind == 'f' else 'bit'
    return join_notes(
        'grey, taken for red, green and blue' if channels < 3 else '',
        f'{"alpha" if has_alpha else "fourth channel"} dropped' if channels in (2, 4) else '',
        f'{bits} {kind}, {scale:g} becomes 255' if bits > 8 else '',
    )


def join_notes(*notes: str) -> str:
    """The notes that are not empty, in one line."""
    return '; '.join(note for note in notes if note)
