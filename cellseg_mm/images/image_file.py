"""Image files of all formats, opened as sources."""

import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from cellseg_mm.utils import UserError

from .array_source import MIN_SIDE, PALETTE_NOTES, ArraySource, SwappedSource
from .ome_zarr_source import ZIP_START, OmeZarrSource, is_ome_zarr
from .openslide_source import OpenSlideSource, dicom_files, is_slide, open_dicom
from .pixel_values import describe_values, full_scale, join_notes, to_rgb
from .tiff_source import TiffSource, UnknownTiffError

TIFF_STARTS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
WHOLE_FORMATS = ('PNG', 'JPEG', 'JPEG2000', 'BMP', 'WEBP')  # of Pillow's formats; some others run programs
SLIDE_SUFFIXES = ('.ndpi', '.mrxs', '.scn', '.bif', '.vms', '.czi')
DICOM = '.dcm'
ZIPPED = ('.zarr.zip', '.ozx')  # OME-Zarr; other zip files may hold anything
SUFFIXES = ('.png', '.jpg', '.jpeg', '.jp2', '.bmp', '.webp', '.tif', '.tiff', '.svs', *SLIDE_SUFFIXES, *ZIPPED)


def open_image(path: str | Path, channel_order: str = 'rgb') -> object:
    """An image file as a source.

    :class:`TiffSource` reads TIFF and SVS by windows, :class:`OmeZarrSource` OME-Zarr, also in a zip file. Pillow reads
    PNG, JPEG, JPEG 2000, BMP and WebP as a whole.
    openslide, if installed, reads DICOM, other slide formats and the kinds of TIFF that TiffSource does not.

    Args:
        path (str | Path): The file; or a folder of OME-Zarr, or of the DICOM files of one slide.
        channel_order (str): ``'rgb'``, or ``'bgr'`` for a file with red and blue exchanged.

    Raises:
        UserError: If it cannot be read.
    """
    path = Path(path)
    source = _open(path)
    if min(source.height, source.width) < MIN_SIDE:
        raise UserError(f'{path}: {source.width}x{source.height} px; at least {MIN_SIDE} a side are needed')
    return SwappedSource(source) if channel_order == 'bgr' else source


def _open(path: Path) -> object:
    if path.is_dir():
        return _open_folder(path)
    try:
        with open(path, 'rb') as file:
            start = file.read(4)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    if not start:
        raise UserError(f'{path}: is empty')
    if path.suffix.lower() in SLIDE_SUFFIXES:  # before TIFF, on which some of them are based
        return OpenSlideSource(path)
    if path.suffix.lower() == DICOM:
        return _open_folder(path.absolute().parent)
    if start == ZIP_START:
        return OmeZarrSource(path)
    if start not in TIFF_STARTS:
        return _read_whole(path)
    try:
        return TiffSource(path)
    except UnknownTiffError:
        if is_slide(path):
            return OpenSlideSource(path)
        raise


def _open_folder(path: Path) -> object:
    if is_ome_zarr(path):
        return OmeZarrSource(path)
    if dicom_files(path):
        return open_dicom(path)
    raise UserError(f'{path}: is a folder without a DICOM slide or OME-Zarr')


def file_state(path: Path) -> list:
    """Size in bytes and time of the last change in ns, by which a changed image is known.

    Of a folder they are those of the files directly in it; chunks of OME-Zarr, in folders of their own, do not count.

    Raises:
        OSError: If it is missing.
    """
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return [sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)]


def is_slide_folder(path: Path) -> bool:
    """Whether a folder is one image: OME-Zarr, or DICOM files."""
    return is_ome_zarr(path) or bool(dicom_files(path))


def _read_whole(path: Path) -> ArraySource:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path, formats=WHOLE_FORMATS) as image:
                # a tile is (codec, box, offset, raw mode); the raw mode is such as RGB;16B
                has_16_bits = image.format == 'PNG' and any('16' in str(tile[3]) for tile in image.tile)
                has_16_bits |= image.format == 'JPEG2000' and _bits_of_jpeg2000(path) > 8
                orientation = image.getexif().get(0x0112, 1)
                image.load()
                array, note = _convert(path, image, has_16_bits)
    except UnidentifiedImageError as error:
        raise UserError(f'{path}: is not a PNG, JPEG, JPEG 2000, BMP, WebP, TIFF or SVS file') from error
    except Image.DecompressionBombError as error:
        limit = 2 * Image.MAX_IMAGE_PIXELS / 1e6
        raise UserError(
            f'{path}: more than {limit:.0f} megapixels, and this format can only be read whole; save it as a tiled TIFF'
        ) from error
    except Exception as error:  # decoders raise many kinds
        raise UserError(f'{path}: is damaged or cut off ({error})') from error
    turned = f'orientation {orientation} not applied' if orientation != 1 else ''
    return ArraySource(array, note=join_notes(note, turned), name=path.name)


def _bits_of_jpeg2000(path: Path) -> int:
    """Bits of the first channel: the lower seven of the byte Ssiz in the segment SIZ (ISO/IEC 15444-1, A.5.1)."""
    content = path.read_bytes()
    return (content[content.index(b'\xff\x4f\xff\x51') + 42] & 127) + 1


def _convert(path: Path, image: Image.Image, has_16_bits: bool) -> tuple:
    """(H, W, 3) uint8 of a loaded image, and a note."""
    if has_16_bits:  # Pillow keeps only the upper 8 bits
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
