"""Image files as sources of windows, so that a slide of any size is never in memory as a whole.

A source has ``height`` and ``width`` in px, ``read(x, y, width, height)``, which returns a window as (height, width, 3)
uint8 RGB, ``pixel_size`` in micrometres or None, ``note``, what was made of a file that is not plain 8-bit RGB, and
``name``, the file's name without its folder, empty for an image in memory.

Pixels are where the file has them: an EXIF orientation is not applied, so that coordinates are those of QuPath, ImageJ
and scikit-image. Alpha is dropped. How more than 8 bits become 8 is said at :func:`full_scale`.
"""

import math
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from cellseg_mm.utils import UserError

from .pixel_values import SAMPLE_SIDE, describe_values, full_scale, join_notes, to_rgb
from .tiff_source import TiffSource, UnknownTiffError, checked_pixel_size

TIFF_STARTS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
WHOLE_FORMATS = ('PNG', 'JPEG', 'JPEG2000', 'BMP', 'WEBP')  # of Pillow's; some of its others run programs
SLIDE_SUFFIXES = ('.ndpi', '.mrxs', '.scn', '.bif', '.vms', '.czi')
SUFFIXES = ('.png', '.jpg', '.jpeg', '.jp2', '.bmp', '.webp', '.tif', '.tiff', '.svs', *SLIDE_SUFFIXES)
MIN_SIDE = 8  # px; no cell fits into less
PALETTE_NOTES = dict(P='palette', PA='palette; alpha dropped', CMYK='CMYK, converted without a colour profile')


class ArraySource:
    """An image in memory.

    Args:
        array (ndarray): (H, W, 3) uint8 RGB.
        pixel_size (float | None): Micrometres a px.
        note (str): What was made of its file.
        name (str): Of its file.

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
        """A window as (height, width, 3) uint8 RGB; it lies within the image."""
        return self._array[y : y + height, x : x + width]


def as_source(image: object) -> object:
    """An image in memory as a source: an array of (H, W, 3) uint8 RGB, an image of Pillow, or a source itself.

    Raises:
        UserError: If it is none of these, or smaller than 8 px a side.
    """
    if isinstance(image, Image.Image):
        if any('16' in part or part in ('I', 'F') for part in (image.mode,)):
            raise UserError(f'an image of mode {image.mode}: 8 bits a channel are needed; give its file instead')
        image = ArraySource(np.array(image.convert('RGB')), note=PALETTE_NOTES.get(image.mode, ''))
    elif isinstance(image, np.ndarray):
        try:
            image = ArraySource(image)
        except ValueError as error:
            raise UserError(str(error)) from error
    elif not all(hasattr(image, name) for name in ('read', 'height', 'width')) or isinstance(image, type):
        raise UserError(
            f'an image of type {type(image).__name__}: a path, an array of (H, W, 3) uint8 RGB, an image of Pillow or '
            'a source of open_image is needed'
        )
    if min(image.height, image.width) < MIN_SIDE:
        raise UserError(f'{image.width}x{image.height} px; at least {MIN_SIDE} a side are needed')
    return image


class SwappedSource:
    """A source whose file has red and blue exchanged, put right."""

    def __init__(self, source: object) -> None:
        self.height, self.width, self.pixel_size = source.height, source.width, source.pixel_size
        self.note = join_notes(source.note, 'red and blue exchanged in the file, put right')
        self.name = source.name
        self._source = source

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """See :meth:`ArraySource.read`."""
        return np.ascontiguousarray(self._source.read(x, y, width, height)[..., ::-1])


class OpenSlideSource:
    """A slide by openslide, an optional package; what the scanner left out is white.

    It is cut to the region that the scanner recorded (``openslide.bounds-x`` and so on), where it names one, as QuPath
    and other viewers show it: that region's upper left corner is (0, 0), and its area counts.

    Args:
        path (Path): The file.

    Raises:
        UserError: If openslide is not installed or does not know the file.
    """

    def __init__(self, path: Path) -> None:
        try:
            import openslide
        except ImportError as error:
            raise UserError(
                f'{path}: slides of this kind need openslide: pip install openslide-python openslide-bin'
            ) from error
        self._path, self._error = path, openslide.OpenSlideError
        try:
            self._slide = openslide.OpenSlide(path)
            self._left, self._top, self.width, self.height, self.note = _bounds(self._slide)
            x, y = (float(self._slide.properties.get(f'openslide.mpp-{axis}', 'nan')) for axis in 'xy')
        except (openslide.OpenSlideError, ValueError) as error:
            raise UserError(f'{path}: openslide cannot read it ({error})') from error
        self.pixel_size, self.name = checked_pixel_size(x, y), path.name

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """See :meth:`ArraySource.read`.

        Raises:
            UserError: If the file is damaged there.
        """
        try:
            window = self._slide.read_region((self._left + x, self._top + y), 0, (width, height))
        except self._error as error:
            raise UserError(f'{self._path}: cannot be decoded at x {x}, y {y}, damaged? ({error})') from error
        white = Image.new('RGBA', window.size, 'white')
        return np.array(Image.alpha_composite(white, window).convert('RGB'))


def _is_slide(path: Path) -> bool:
    """Whether openslide is there and knows a file as one of a scanner, and not as any TIFF in tiles."""
    try:
        from openslide import OpenSlide
    except ImportError:
        return False
    return OpenSlide.detect_format(path) not in (None, 'generic-tiff')


def _bounds(slide: object) -> tuple:
    """x, y, width and height of the region that a slide shows, in px of its full canvas, and what to say about it.

    Raises:
        ValueError: If it names a region that is not one of the canvas.
    """
    names = [f'openslide.bounds-{name}' for name in ('x', 'y', 'width', 'height')]
    full_width, full_height = slide.dimensions
    if not all(name in slide.properties for name in names):
        return 0, 0, full_width, full_height, ''
    x, y, width, height = (int(slide.properties[name]) for name in names)
    width, height = min(width, full_width - x), min(height, full_height - y)
    if x < 0 or y < 0 or width < 1 or height < 1:
        raise ValueError(f'its bounds {x}, {y}, {width}, {height} are not in its {full_width}x{full_height} px')
    if (width, height) == (full_width, full_height):
        return 0, 0, width, height, ''
    note = (
        f'the scanned region, as viewers show it: (0, 0) is at x {x}, y {y} of the full {full_width}x{full_height} px'
    )
    return x, y, width, height, note


def open_image(path: str | Path, channel_order: str = 'rgb') -> object:
    """An image file as a source.

    TIFF and SVS are read by windows, see :class:`TiffSource`; PNG, JPEG, JPEG 2000, BMP and WebP whole, by Pillow;
    other slide formats, and TIFF of a kind that is none of TiffSource's, by openslide where it is installed.

    Args:
        path (str | Path): The file.
        channel_order (str): ``'rgb'``, or ``'bgr'`` for a file with red and blue exchanged.

    Raises:
        UserError: If it cannot be read, in one line.
    """
    path = Path(path)
    source = _open(path)
    if min(source.height, source.width) < MIN_SIDE:
        raise UserError(f'{path}: {source.width}x{source.height} px; at least {MIN_SIDE} a side are needed')
    return SwappedSource(source) if channel_order == 'bgr' else source


def _open(path: Path) -> object:
    try:
        with open(path, 'rb') as file:
            start = file.read(4)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    if not start:
        raise UserError(f'{path}: is empty')
    if path.suffix.lower() in SLIDE_SUFFIXES:  # before TIFF, which some of them are underneath
        return OpenSlideSource(path)
    if start not in TIFF_STARTS:
        return _read_whole(path)
    try:
        return TiffSource(path)
    except UnknownTiffError:
        if _is_slide(path):
            return OpenSlideSource(path)
        raise


def read_overview(source: object, max_side: int) -> tuple:
    """The image shrunk by a whole number, so that no side is above ``max_side`` px; read strip by strip.

    Args:
        source (object): See :func:`open_image`.
        max_side (int): Px.

    Returns:
        tuple: (H // k, W // k, 3) uint8 RGB, the means of k x k px, and k. What is left over at the right and below
        is not in it.
    """
    shrink = math.ceil(max(source.height, source.width) / max_side)
    height, width = max(1, source.height // shrink), max(1, source.width // shrink)
    overview = np.empty((height, width, 3), np.uint8)
    rows = max(1, SAMPLE_SIDE // shrink)
    for top in range(0, height, rows):
        part = overview[top : top + rows]
        size = min(width * shrink, source.width), min(len(part) * shrink, source.height)
        cv2.resize(source.read(0, top * shrink, *size), part.shape[1::-1], part, interpolation=cv2.INTER_AREA)
    return overview, shrink


def _read_whole(path: Path) -> ArraySource:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path, formats=WHOLE_FORMATS) as image:
                # of codec, box, offset and raw mode the last, such as RGB;16B
                has_16_bits = image.format == 'PNG' and any('16' in str(tile[3]) for tile in image.tile)
                orientation = image.getexif().get(0x0112, 1)
                image.load()
                array, note = _convert(path, image, has_16_bits)
    except UnidentifiedImageError as error:
        raise UserError(f'{path}: is none of PNG, JPEG, JPEG 2000, BMP, WebP, TIFF and SVS') from error
    except Image.DecompressionBombError as error:
        limit = 2 * Image.MAX_IMAGE_PIXELS / 1e6
        raise UserError(
            f'{path}: more than {limit:.0f} megapixels, which such a file gives only at once; save it as a tiled TIFF'
        ) from error
    except Exception as error:  # decoders raise many kinds
        raise UserError(f'{path}: is damaged or cut off ({error})') from error
    turned = f'orientation {orientation} not applied' if orientation != 1 else ''
    return ArraySource(array, note=join_notes(note, turned), name=path.name)


def _convert(path: Path, image: Image.Image, has_16_bits: bool) -> tuple:
    """(H, W, 3) uint8 of a loaded image, and a note."""
    if has_16_bits:  # Pillow keeps the upper 8 bits alone
        values = np.atleast_3d(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED))
        values = values[..., [2, 1, 0, 3][: values.shape[2]]] if values.shape[2] > 1 else values
    elif image.mode[0] in 'IF':
        values = np.asarray(image)[..., None]
    else:
        channels = len(image.getbands())
        note = PALETTE_NOTES.get(image.mode) or describe_values(channels, np.dtype(np.uint8), 8, 255)
        return np.array(image.convert('RGB')), note
    bits = 8 * values.dtype.itemsize
    scale = full_scale(values.dtype, bits, values.min(), values.max())
    return to_rgb(values, scale), describe_values(values.shape[2], values.dtype, bits, scale)
