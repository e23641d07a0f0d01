"""Image files as sources of windows, so that slides of any size fit in memory.

A source has

- ``height`` and ``width`` in px;
- ``read(x, y, width, height)``, which returns a window as (height, width, 3) uint8 RGB;
- ``pixel_size`` in micrometres, or None;
- ``note``, how a file was converted that is not plain 8-bit RGB;
- ``name``, the file's name without its folder, empty for an image in memory;
- ``levels`` where the file holds the image at smaller sizes too, see :class:`ResampledSource`: sources with
  ``downsample``, px of the image to a px of theirs in x and y.

Pixels are where the file has them: an EXIF orientation is not applied, so coordinates equal those of QuPath, ImageJ and
scikit-image. Alpha is dropped. :func:`full_scale` defines how more than 8 bits become 8.
"""

from .array_source import MIN_SIDE, ArraySource, SwappedSource, as_source
from .image_file import DICOM, SUFFIXES, file_state, is_slide_folder, open_image
from .ome_zarr_source import OmeZarrSource
from .openslide_source import OpenSlideSource
from .overview import read_overview
from .pixel_size import check_pixel_size, checked_pixel_size, is_same_size
from .pixel_values import full_scale, sample_windows
from .quiet import silence_readers
from .resampled_source import ResampledSource
from .tiff_pages import tiff_pages
from .tiff_source import TiffSource

__all__ = [
    'DICOM',
    'MIN_SIDE',
    'SUFFIXES',
    'ArraySource',
    'OmeZarrSource',
    'OpenSlideSource',
    'ResampledSource',
    'SwappedSource',
    'TiffSource',
    'as_source',
    'check_pixel_size',
    'checked_pixel_size',
    'file_state',
    'full_scale',
    'is_same_size',
    'is_slide_folder',
    'open_image',
    'read_overview',
    'sample_windows',
    'silence_readers',
    'tiff_pages',
]
