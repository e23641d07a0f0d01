"""TIFF and SVS by windows: only the tiles or strips in a window are decoded."""

import contextlib
import copy
import functools
import itertools
import math
import os
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from cellseg_mm.utils import UserError

from .pixel_size import MICROMETERS, checked_pixel_size
from .pixel_values import describe_values, join_notes, sampled_scale, to_rgb
from .resampled_source import whole_step
from .tiff_pages import MAX_PAGES, tiff_pages

# Channels without alpha, by photometric interpretation.
CHANNELS = dict(MINISWHITE=1, MINISBLACK=1, PALETTE=1, RGB=3, YCBCR=3, SEPARATED=4)
KIND_NOTES = dict(
    PALETTE='palette',
    SEPARATED='CMYK, converted without a colour profile',
    MINISWHITE='grey stored inverted, taken for red, green and blue',
)
JPEG = (6, 7, 33007, 34892)  # compressions that are decoded to RGB
SAME_IN_LEVELS = ('photometric', 'samplesperpixel', 'dtype', 'bitspersample', 'planarconfig', 'compression')
MAX_SEGMENT = 2**28  # px of a tile or strip, which is decoded at once
CACHE_BYTES = 2**27  # of decoded tiles and strips, kept for the next window


class UnknownTiffError(UserError):
    """The file may be complete, but :class:`TiffSource` does not read its kind."""


class TiffSource:
    """The largest page of a TIFF file, which is a slide's full resolution; the first of equal ones.

    Tiles that the file leaves out, as slides do for glass, are white.

    Args:
        path (Path): The file.

    Raises:
        UserError: If it is not a complete TIFF, or its pixels are not an image (:class:`UnknownTiffError`).
    """

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, path.name
        try:
            self._file = tifffile.TiffFile(path)
            pages = tiff_pages(self._file)
            page = self._page = max(pages, key=lambda page: page.imagelength * page.imagewidth).aspage()
            self._kind = page.photometric.name
            self._is_jpeg = page.compression in JPEG
        except Exception as error:  # damaged tags raise many kinds of errors
            raise UnknownTiffError(f'{path}: is not a complete TIFF ({error})') from error
        self.height, self.width = page.imagelength, page.imagewidth
        self._check_kind()
        self._use(self._color_pages(pages))
        if len(self._pages) > 1:
            self._kind = 'RGB'
        self._scale = 0  # of tiles that are left out, so that they do not count
        self._scale = sampled_scale(path, self._read_stored, self.height, self.width, page.dtype, page.bitspersample)
        self._segment.cache_clear()
        self.pixel_size = _pixel_size(self._file, page)
        values_note = describe_values(self._channels, page.dtype, page.bitspersample, self._scale, _has_alpha(page))
        orientation = int(page.tags.valueof('Orientation', default=1))
        self.note = join_notes(
            _page_note(self._pages, pages),
            KIND_NOTES.get(self._kind, values_note),
            f'orientation {orientation} not applied' if orientation != 1 else '',
        )

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """A window of the image as (height, width, 3) uint8 RGB.

        Raises:
            UserError: If the file is damaged there.
        """
        values = self._read_stored(x, y, width, height)
        if self._kind == 'PALETTE':
            return to_rgb(self._palette[values[..., 0].astype(np.intp)], 255)
        if self._kind == 'SEPARATED':
            inks = np.rint(values[..., :4] * (255 / self._scale)).astype(np.uint8)
            return np.array(Image.frombytes('CMYK', (width, height), inks.tobytes()).convert('RGB'))
        rgb = to_rgb(values, self._scale)
        return 255 - rgb if self._kind == 'MINISWHITE' else rgb

    @functools.cached_property
    def _palette(self) -> np.ndarray:
        """(N, 3) uint8 RGB of each index. Some programs write 8 bits where TIFF asks for 16, as libtiff accepts."""
        colors = self._page.colormap.T
        return (colors >> 8 if colors.max() > 255 else colors).astype(np.uint8)

    @functools.cached_property
    def levels(self) -> tuple:
        """The image at other sizes, as slides have it, finest first: sources with ``downsample``, px of the image to a
        px of theirs in x and y. Those after a damaged one are left out."""
        if len(self._pages) > 1:
            return ()
        page, found = self._page, {}
        with contextlib.suppress(Exception):  # damaged tags raise many kinds of errors
            for other in [*tiff_pages(self._file), *itertools.islice(page.pages or (), MAX_PAGES)]:
                step = whole_step(page.imagewidth, other.imagewidth)
                is_same_kind = all(getattr(other, name) == getattr(page, name) for name in SAME_IN_LEVELS)
                if step > 1 and step == whole_step(page.imagelength, other.imagelength) and is_same_kind:
                    found.setdefault(step, self._level(other, step))
        return tuple(level for _, level in sorted(found.items()))

    def _level(self, page: tifffile.TiffPage, step: int) -> 'TiffSource':
        level = copy.copy(self)
        level.__dict__.pop('_mapped', None)
        level._page, level.downsample, level.pixel_size = page, (step, step), None
        level.height, level.width = page.imagelength, page.imagewidth
        level._use([page])
        return level

    def _use(self, pages: list) -> None:
        """Read from these pages, one or three grey ones of one layout.

        Raises:
            UserError: If the file does not hold all of their pixels.
        """
        page, self._pages = self._page, pages
        self._channels = page.samplesperpixel * len(pages)
        self._planes = self._channels if page.planarconfig == 2 or len(pages) > 1 else 1
        strip = min(page.rowsperstrip, self.height), self.width
        self._segment_shape = (page.tilelength, page.tilewidth) if page.is_tiled else strip
        self._grid = math.ceil(self.height / self._segment_shape[0]), math.ceil(self.width / self._segment_shape[1])
        self._check_segments()
        segment_bytes = math.prod(self._segment_shape) * self._channels * page.dtype.itemsize
        self._segment = functools.lru_cache(max(1, CACHE_BYTES // segment_bytes))(self._decode)

    def _check_kind(self) -> None:
        page, channels = self._page, CHANNELS.get(self._kind, 0)
        unconverted = self._kind == 'YCBCR' and not self._is_jpeg
        if page.is_bif or page.compression == 33003 or unconverted:
            # overlapping tiles (Ventana), or YCbCr that its codec does not convert (33003: the first kind of Aperio)
            raise UnknownTiffError(f'{self._path}: this kind of TIFF cannot be read; save it as a plain RGB TIFF')
        if page.dtype is None or page.dtype.kind not in 'buif' or page.imagedepth > 1 or 0 in page.shape:
            raise UnknownTiffError(f'{self._path}: its largest page is not an image of numbers')
        if not channels or not channels <= page.samplesperpixel <= channels + 1:
            raise UnknownTiffError(
                f'{self._path}: {page.samplesperpixel} channels of kind {self._kind}; grey, palette, RGB and CMYK '
                'can be read, with or without alpha'
            )
        if self._kind in ('MINISBLACK', 'MINISWHITE') and page.samplesperpixel == 2 and not _has_alpha(page):
            raise UserError(
                f'{self._path}: has two channels, of which none is said to be alpha; save it as one channel or as RGB'
            )

    def _color_pages(self, pages: list) -> list:
        """The pages of red, green and blue if grey pages are three channels (ImageJ, OME); otherwise the page.

        Raises:
            UserError: For three grey pages without a word about what they are.
        """
        page = self._page
        alike = [other for other in pages if other.shape == page.shape and other.dtype == page.dtype]
        if self._kind not in ('MINISBLACK', 'MINISWHITE') or page.samplesperpixel != 1 or len(alike) < 3:
            return [page]
        if self._file.is_imagej or self._file.is_ome:
            series = max(self._file.series, key=lambda series: math.prod(series.shape))
            sizes = dict(zip(series.axes, series.shape, strict=True))
            if sizes.get('C') != 3 or len(series.pages) != math.prod(series.shape) // math.prod(page.shape):
                return [page]
            others = [(axis, size) for axis, size in sizes.items() if axis not in 'YXS']
            step = math.prod([size for axis, size in others[[axis for axis, _ in others].index('C') + 1 :]])
            found = [series.pages[channel * step] for channel in range(3)]
            return [page if each is None else each.aspage() for each in found]
        if len(alike) == 3 == len(pages):
            raise UserError(
                f'{self._path}: has three grey pages, which may be colours or a stack; save it as RGB, as a single '
                'page, or as a composite image of ImageJ'
            )
        return [page]

    def _check_segments(self) -> None:
        page = self._page
        if math.prod(self._segment_shape) > MAX_SEGMENT and not page.is_memmappable:
            raise UnknownTiffError(
                f'{self._path}: {self.width}x{self.height} px in strips or tiles of more than '
                f'{MAX_SEGMENT / 1e6:.0f} megapixels, each of which must be decoded at once; save it as a tiled TIFF'
            )
        size = os.path.getsize(self._path)
        ends = [np.add(page.dataoffsets, page.databytecounts, dtype=np.int64).max(initial=0) for page in self._pages]
        needed, segments = int(max(ends)), min(len(page.dataoffsets) for page in self._pages)
        if size < needed or segments * len(self._pages) < math.prod(self._grid) * self._planes:
            raise UserError(f'{self._path}: is cut off or damaged (has {size:,} bytes, needs {needed:,})')

    def _read_stored(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """A window as (height, width, C) in the file's type."""
        if self._mapped is not None:
            parts = [mapped[y : y + height, x : x + width] for mapped in self._mapped]
            return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        (rows, cols), (segment_height, segment_width) = self._grid, self._segment_shape
        window = np.empty((height, width, self._channels), self._page.dtype)
        for plane, row, col in itertools.product(
            range(self._planes),
            range(y // segment_height, (y + height - 1) // segment_height + 1),
            range(x // segment_width, (x + width - 1) // segment_width + 1),
        ):
            top, left = row * segment_height - y, col * segment_width - x
            part = self._segment((plane * rows + row) * cols + col)[max(-top, 0) :, max(-left, 0) :]
            channels = slice(plane, plane + 1) if self._planes > 1 else slice(None)
            target = window[max(top, 0) : top + segment_height, max(left, 0) : left + segment_width, channels]
            target[:] = part[: target.shape[0], : target.shape[1]]
        return window

    @functools.cached_property
    def _mapped(self) -> list | None:
        """(H, W, C) of each page, mapped from the file, if its values are neither compressed nor scattered."""
        if not all(page.is_memmappable for page in self._pages):
            return None
        return [self._map_page(page) for page in self._pages]

    def _map_page(self, page: tifffile.TiffPage) -> np.ndarray:
        dtype = np.dtype(self._file.byteorder + page.dtype.char)
        stored = np.memmap(self._path, dtype, 'r', page.dataoffsets[0], page.shape)
        planes = page.samplesperpixel if page.planarconfig == 2 else 1
        stored = stored.reshape(planes, self.height, self.width, -1)
        return stored[..., 0].transpose(1, 2, 0) if planes > 1 else stored[0]

    def _decode(self, index: int) -> np.ndarray:
        """A tile or strip as (h, w, C); C is 1 if channels are stored in planes."""
        number, index = divmod(index, math.prod(self._grid) * self._planes // len(self._pages))
        page = self._pages[number]
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not count:
            white = 0 if self._kind in ('MINISWHITE', 'SEPARATED') else self._scale
            return np.full((*self._segment_shape, 1), white, page.dtype)
        try:
            handle = self._file.filehandle
            with handle.lock:
                handle.seek(offset)
                data = handle.read(count)
            tables = dict(jpegtables=page.jpegtables, jpegheader=page.jpegheader) if self._is_jpeg else {}
            return page.decode(data, index, **tables)[0][0]
        except Exception as error:  # codecs raise many kinds of errors
            raise UserError(f'{self._path}: cannot be decoded from byte {offset} on, damaged? ({error})') from error


def _has_alpha(page: tifffile.TiffPage) -> bool:
    """Whether a channel is said to be alpha, associated or not. OpenCV, for one, writes alpha without saying so."""
    return bool({1, 2} & set(page.extrasamples))


def _page_note(chosen: list, pages: list) -> str:
    if len(chosen) > 1:
        others = f', the first of {len(pages) // len(chosen)}' if len(pages) > len(chosen) else ''
        return f'three channels, taken for red, green and blue{others}'
    return f'page {chosen[0].index + 1} of {len(pages)}' if len(pages) > 1 else ''


def _pixel_size(file: tifffile.TiffFile, page: tifffile.TiffPage) -> float | None:
    """Micrometres a px from Aperio, OME-XML, ImageJ or the resolution tags; None if missing or not square."""
    try:
        x, y = _stated_pixel_size(file, page)
    except (LookupError, TypeError, ValueError, ArithmeticError, SyntaxError):
        return None  # metadata have many forms
    return checked_pixel_size(x, y)


def _stated_pixel_size(file: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple:
    """Micrometres a px in x and y; raises one of many errors if the file does not say."""
    if page.is_svs:
        return (float(tifffile.tifffile.svs_description_metadata(page.description)['MPP']),) * 2
    if file.is_ome:
        images = tifffile.xml2dict(file.ome_metadata)['OME']['Image']
        described = [image['Pixels'] for image in (images if isinstance(images, list) else [images])]
        if len(described) > 1:  # each has its own
            size = page.imagewidth, page.imagelength
            described = [pixels for pixels in described if (pixels['SizeX'], pixels['SizeY']) == size]
        pixels = described[0]
        return tuple(
            float(pixels[f'PhysicalSize{axis}']) * MICROMETERS[pixels.get(f'PhysicalSize{axis}Unit', 'µm')]
            for axis in 'XY'
        )
    if file.is_imagej:
        unit = MICROMETERS[file.imagej_metadata['unit']]
        return tuple(unit / value for value in page.get_resolution())
    if page.resolutionunit not in (2, 3):  # inch, cm
        raise KeyError('resolution unit')
    return tuple(1 / value for value in page.get_resolution(tifffile.RESUNIT.MICROMETER))
