"""Images in memory as sources of windows."""

import numpy as np
from PIL import Image

from cellseg_mm.utils import UserError

from .pixel_values import join_notes

MIN_SIDE = 8  # px; no cell fits into less
PALETTE_NOTES = dict(P='palette', PA='palette; alpha dropped', CMYK='CMYK, converted without a colour profile')


class ArraySource:
    """An image in memory.

    Args:
        array (ndarray): (H, W, 3) uint8 RGB.
        pixel_size (float | None): Micrometres a px.
        note (str): How its file was converted.
        name (str): The name of its file.

    Raises:
        ValueError: For another array.
    """

    def __init__(self, array: np.ndarray, pixel_size: float | None = None, note: str = '', name: str = '') -> None:
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
            raise ValueError(f'an image of (H, W, 3) uint8 RGB is needed, not {array.shape} {array.dtype}')
        self.height, self.width = array.shape[:2]
        self.pixel_size, self.note, self.name = pixel_size, note, name
        self._array = array

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """A window of the image as (height, width, 3) uint8 RGB."""
        return self._array[y : y + height, x : x + width]


def as_source(image: object) -> object:
    """An image in memory as a source: an (H, W, 3) uint8 RGB array, a Pillow image, or a source itself.

    Raises:
        UserError: For another type, or fewer than 8 px a side.
    """
    if isinstance(image, Image.Image):
        if '16' in image.mode or image.mode in ('I', 'F'):
            raise UserError(f'an image of mode {image.mode}: 8 bits per channel are needed; pass its file instead')
        image = ArraySource(np.array(image.convert('RGB')), note=PALETTE_NOTES.get(image.mode, ''))
    elif isinstance(image, np.ndarray):
        try:
            image = ArraySource(image)
        except ValueError as error:
            raise UserError(str(error)) from error
    elif not all(hasattr(image, name) for name in ('read', 'height', 'width', 'pixel_size', 'name')) or isinstance(
        image, type
    ):
        raise UserError(
            f'an image of type {type(image).__name__}: a path, an (H, W, 3) uint8 RGB array, a Pillow image or a '
            'source from open_image is needed'
        )
    if min(image.height, image.width) < MIN_SIDE:
        raise UserError(f'{image.width}x{image.height} px; at least {MIN_SIDE} a side are needed')
    return image


class SwappedSource:
    """A source whose file has red and blue exchanged, in true RGB."""

    def __init__(self, source: object) -> None:
        self.height, self.width, self.pixel_size = source.height, source.width, source.pixel_size
        self.note = join_notes(source.note, 'red and blue exchanged in the file, corrected')
        self.name = source.name
        self._source = source
        if hasattr(source, 'downsample'):
            self.downsample = source.downsample

    @property
    def levels(self) -> tuple:
        """Those of the file."""
        return tuple(map(SwappedSource, getattr(self._source, 'levels', ())))

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """See :meth:`ArraySource.read`."""
        return np.ascontiguousarray(self._source.read(x, y, width, height)[..., ::-1])
