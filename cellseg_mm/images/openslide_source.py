"""Slides of scanners by openslide."""

import contextlib
import functools
from pathlib import Path

import numpy as np
from PIL import Image

from cellseg_mm.utils import UserError

from .pixel_size import checked_pixel_size

ROUNDING = 0.02  # of a level's downsampling


class OpenSlideSource:
    """A slide, read by the optional package openslide. Regions that the scanner left out are white.

    If the slide names the region that the scanner recorded (``openslide.bounds-x`` and so on), the source is that
    region, as in QuPath and other viewers, and (0, 0) is its upper left corner.

    Args:
        path (Path): The file.

    Raises:
        UserError: If openslide is not installed or cannot read the file.
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
        self.series = self._slide.properties.get('dicom.SeriesInstanceUID')

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """See :meth:`~cellseg_mm.images.ArraySource.read`.

        Raises:
            UserError: If the file is damaged there.
        """
        return self._read_level(0, x, y, width, height)

    @functools.cached_property
    def levels(self) -> tuple:
        """See :attr:`.tiff_source.TiffSource.levels`; those whose last px cannot be read are left out."""
        steps, found = self._slide.level_downsamples, []
        for index in range(1, len(steps)):
            with contextlib.suppress(UserError):
                # of a slide opened anew, because openslide reads nothing more from one after an error
                level = _Level(OpenSlideSource(self._path), index, steps[index])
                level.read(level.width - 1, level.height - 1, 1, 1)
                found.append(level)
        return tuple(found)

    def _read_level(self, level: int, x: float, y: float, width: int, height: int) -> np.ndarray:
        """A window whose corner is given in px of the source, its size in px of the level."""
        corner = self._left + round(x), self._top + round(y)
        try:
            window = self._slide.read_region(corner, level, (width, height))
        except self._error as error:
            raise UserError(f'{self._path}: cannot be decoded at x {x}, y {y}, damaged? ({error})') from error
        white = Image.new('RGBA', window.size, 'white')
        return np.array(Image.alpha_composite(white, window).convert('RGB'))


def dicom_files(folder: Path) -> list:
    """The DICOM files in a folder, by name; empty for anything else."""
    return sorted(path for path in folder.glob('*') if path.suffix.lower() == '.dcm') if folder.is_dir() else []


def open_dicom(folder: Path) -> OpenSlideSource:
    """The slide whose DICOM files, one or more for each resolution, lie in a folder.

    Raises:
        UserError: See :class:`OpenSlideSource`; or if the files are of several slides.
    """
    files, sources, problem = dicom_files(folder), {}, None
    for path in files:
        try:
            source = OpenSlideSource(path)
        except UserError as error:
            problem = problem or error
            continue
        sources.setdefault(source.series, source)
    if not sources:
        raise problem
    if len(sources) > 1:
        raise UserError(f'{folder}: DICOM files of {len(sources)} slides; put those of each into a folder of its own')
    (source,) = sources.values()
    source.name = folder.name
    return source


class _Level:
    """The image at another size; see :attr:`OpenSlideSource.levels`."""

    def __init__(self, source: OpenSlideSource, index: int, step: float) -> None:
        self._source, self._index, self._step = source, index, step
        # openslide takes it from rounded sizes, and places windows by it
        self.downsample = (round(step) if abs(step - round(step)) < ROUNDING else step,) * 2
        self.height, self.width = (max(1, int(side / step)) for side in (source.height, source.width))

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        return self._source._read_level(self._index, x * self._step, y * self._step, width, height)


def is_slide(path: Path) -> bool:
    """Whether openslide is installed and recognises a scanner's format in the file, not just a tiled TIFF."""
    try:
        from openslide import OpenSlide
    except ImportError:
        return False
    return OpenSlide.detect_format(path) not in (None, 'generic-tiff')


def _bounds(slide: object) -> tuple:
    """x, y, width and height of the region that a slide shows, in px of its full canvas, and a note about it.

    Raises:
        ValueError: If the region that it names lies outside the canvas.
    """
    names = [f'openslide.bounds-{name}' for name in ('x', 'y', 'width', 'height')]
    full_width, full_height = slide.dimensions
    if not all(name in slide.properties for name in names):
        return 0, 0, full_width, full_height, ''
    x, y, width, height = (int(slide.properties[name]) for name in names)
    width, height = min(width, full_width - x), min(height, full_height - y)
    if x < 0 or y < 0 or width < 1 or height < 1:
        raise ValueError(f'its bounds {x}, {y}, {width}, {height} are outside its {full_width}x{full_height} px')
    if (width, height) == (full_width, full_height):
        return 0, 0, width, height, ''
    note = (
        f'the scanned region, as viewers show it: (0, 0) is at x {x}, y {y} of the full {full_width}x{full_height} px'
    )
    return x, y, width, height, note
