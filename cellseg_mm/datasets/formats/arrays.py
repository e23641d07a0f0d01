"""Data sets in a few large .npy files, which are memory mapped, so that an image costs only its own bytes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellseg_mm.images import MIN_SIDE
from cellseg_mm.utils import UserError

from .sample import Sample, check_size


def open_array(path: Path, *channels: int) -> np.ndarray:
    """An array (N, H, W, C) of numbers, on disk.

    Args:
        path (Path): The .npy file.
        channels (int): Allowed values of C.

    Raises:
        UserError: If it cannot be read, or is of another shape or dtype.
    """
    try:
        array = np.load(path, mmap_mode='r', allow_pickle=False)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror or error}') from error
    except Exception as error:  # a damaged header raises many kinds of errors
        reason = str(error).replace('\n', ' ')
        raise UserError(f'{path}: is not a .npy file of numbers, or is cut off ({reason})') from error
    needed = ' or '.join(map(str, channels))
    if not isinstance(array, np.ndarray) or array.ndim != 4 or array.shape[3] not in channels:
        shape = getattr(array, 'shape', None)
        raise UserError(f'{path}: has the shape {shape}; (images, height, width, {needed}) is needed')
    if array.dtype.kind not in 'buif':
        raise UserError(f'{path}: holds {array.dtype}; numbers are needed')
    if min(array.shape[1:3]) < MIN_SIDE:
        height, width = array.shape[1:3]
        raise UserError(f'{path}: images of {width}x{height} px; at least {MIN_SIDE} a side are needed')
    check_size(path, *array.shape[1:3])
    return array


def count_images(images: Path, labels: Path | None, *channels: int) -> int:
    """The number of images of a file (N, H, W, 3).

    Args:
        images (Path): The .npy file.
        labels (Path | None): The file (N, H, W, C) of their labels.
        channels (int): Allowed values of C.

    Raises:
        UserError: See :func:`open_array`; or if the labels differ in number or size.
    """
    shape = open_array(images, 3).shape
    if labels is not None:
        other = open_array(labels, *channels).shape
        if other[:3] != shape[:3]:
            raise UserError(f'{labels}: has {other[:3]}, but {images.name} has {shape[:3]} (images, height, width)')
    return shape[0]


@dataclass(frozen=True)
class ArraySample(Sample):
    """``image`` is the file of all images, ``source`` that of their labels.

    Attributes:
        index: Index of the image in both.
    """

    index: int = 0

    def read_image(self) -> tuple:
        """See :meth:`Sample.read_image`. The array holds whole numbers from 0 to 255, of any dtype.

        Raises:
            UserError: See :func:`open_array`; or if it holds anything else, such as values from 0 to 1.
        """
        stored = open_array(self.image, 3)[self.index]
        with np.errstate(invalid='ignore'):
            image = stored.astype(np.uint8)
        if not np.array_equal(image, stored):
            raise UserError(
                f'{self.image}: image {self.index} holds {stored.min():g} to {stored.max():g}; whole numbers from 0 to '
                '255 are needed'
            )
        return image, '', None
