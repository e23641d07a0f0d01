"""OME-Zarr (NGFF 0.1 to 0.5, Zarr 2 and 3) by windows, from a folder or a zip file."""

import contextlib
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cellseg_mm.utils import UserError

from .pixel_size import MICROMETERS, checked_pixel_size
from .pixel_values import describe_values, join_notes, sampled_scale, to_rgb
from .resampled_source import whole_step

ROOT_FILES = ('zarr.json', '.zgroup', '.zattrs')  # of which one lies in the folder of an image
ZIP_START = b'PK\x03\x04'
MAX_CHUNK = 2**28  # px, which are decoded at once
DEFAULT_AXES = ('t', 'c', 'z', 'y', 'x')  # before NGFF 0.3
PRIMARY = ('FF0000', '00FF00', '0000FF')  # colours of channels that are red, green and blue
# Names of units by UDUNITS-2, as NGFF asks for.
UNITS = MICROMETERS | dict(micrometer=1, nanometer=1e-3, angstrom=1e-4, millimeter=1e3, centimeter=1e4, meter=1e6)
# Codecs that only pack numbers; others, such as Zarr 2's pickle, may run a program.
CODECS = {'blosc', 'bytes', 'bz2', 'crc32c', 'delta', 'gzip', 'lz4', 'lzma', 'shuffle', 'transpose', 'zlib', 'zstd'}
CODECS |= {'sharding_indexed', 'vlen-utf8', *(f'numcodecs.{name}' for name in CODECS)}


def is_ome_zarr(path: Path) -> bool:
    """Whether a folder looks like a Zarr store."""
    return path.is_dir() and any((path / name).is_file() for name in ROOT_FILES)


class OmeZarrSource:
    """The first image of an OME-Zarr store at its full resolution. Chunks that are left out have the fill value.

    Axes other than x, y and the channel must have the length 1. One channel is grey; three are red, green and blue, in
    the order of their colours in ``omero`` if these are the three primary ones.

    Args:
        path (Path): A folder, or a zip file, which is not unpacked.

    Raises:
        UserError: If zarr is not installed, or the store is broken or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, path.name
        with self._one_line_errors():
            group = _open_group(path)
        with self._one_line_errors():
            group, series = _first_image(group)
            attributes = dict(group.attrs)
            content = attributes.get('ome', attributes)
            multiscale = content['multiscales'][0]
            names = [str(dataset['path']) for dataset in multiscale['datasets']]
            arrays = [_open_array(group, name) for name in names]
            axes, units = _axes(multiscale, arrays[0].ndim)
            scale = _scale(multiscale, arrays[0].ndim)
        self._use(arrays[0], axes)
        self._order, channel_note = _channel_order(self._channels, content)
        dtype, bits = arrays[0].dtype, 8 * arrays[0].dtype.itemsize
        self._scale = sampled_scale(path, self._read_stored, self.height, self.width, dtype, bits)
        self.pixel_size = _pixel_size(dict(zip(axes, scale, strict=True)), units) if scale else None
        self._others = arrays[1:], axes
        several = f'image 1 of {series}' if series > 1 else ''
        self.note = join_notes(several, channel_note, describe_values(self._channels, dtype, bits, self._scale))

    def _use(self, array: object, axes: Sequence) -> None:
        """Read from this array.

        Raises:
            UserError: If it cannot be read as a plane.
        """
        sizes = dict(zip(axes, array.shape, strict=True))
        deep = {axis: size for axis, size in sizes.items() if axis not in 'cyx' and size > 1}
        if deep:
            axis, size = next(iter(deep.items()))
            raise UserError(f'{self._path}: has {size} planes along {axis}; save one of them, or a projection')
        if not {'y', 'x'} <= sizes.keys() or 0 in array.shape:
            raise UserError(f'{self._path}: an image of {dict(sizes)}; x and y are needed')
        self._channels = sizes.get('c', 1)
        if self._channels not in (1, 3):
            raise UserError(
                f'{self._path}: has {self._channels} channels; save one (grey), or three for red, green and blue'
            )
        if array.dtype.kind not in 'buif':
            raise UserError(f'{self._path}: holds {array.dtype}; numbers are needed')
        if math.prod(array.chunks) > MAX_CHUNK:
            raise UserError(
                f'{self._path}: chunks of {"x".join(map(str, array.chunks))}, each of which must be decoded at once; '
                'save it in smaller ones'
            )
        self._array, self._axes = array, axes
        self.height, self.width = sizes['y'], sizes['x']

    @property
    def levels(self) -> tuple:
        """See :attr:`.tiff_source.TiffSource.levels`; those of another downsampling than whole numbers are left out."""
        arrays, axes = self._others
        found = []
        for array in arrays:
            level = object.__new__(OmeZarrSource)
            level.__dict__.update(self.__dict__, _others=((), axes), pixel_size=None)
            level._use(array, axes)
            step = whole_step(self.width, level.width)
            if step > 1 and step == whole_step(self.height, level.height) and array.dtype == self._array.dtype:
                level.downsample = step, step
                found.append(level)
        return tuple(sorted(found, key=lambda level: level.downsample))

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """See :meth:`~cellseg_mm.images.ArraySource.read`.

        Raises:
            UserError: If the store is damaged there.
        """
        return to_rgb(self._read_stored(x, y, width, height)[..., self._order], self._scale)

    def _read_stored(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """A window as (height, width, C) in the store's type."""
        places = dict(y=slice(y, y + height), x=slice(x, x + width), c=slice(None))
        with self._one_line_errors(f' at x {x}, y {y}'):
            window = np.asarray(self._array[tuple(places.get(axis, 0) for axis in self._axes)])
        kept = [axis for axis in self._axes if axis in places]
        if 'c' not in kept:
            window, kept = window[..., None], [*kept, 'c']
        return window.transpose([kept.index(axis) for axis in 'yxc'])

    @contextlib.contextmanager
    def _one_line_errors(self, where: str = '') -> Iterator:
        """Turn the many kinds of errors of damaged stores into one of the user's."""
        try:
            yield
        except UserError as error:
            raise UserError(f'{self._path}: {error}') from error
        except Exception as error:
            text = ' '.join(f'{type(error).__name__}: {error}'.split())
            raise UserError(f'{self._path}: is not a complete OME-Zarr image{where} ({text})') from error


def _open_group(path: Path) -> object:
    """The group at the top of a store, read-only; that of a zip file may lie in a folder of it."""
    try:
        import zarr
        from zarr.storage import LocalStore, ZipStore
    except ImportError as error:
        raise UserError('OME-Zarr needs zarr 3 (Python 3.11 or newer): run `make setup EXTRAS=slides`') from error
    if path.is_dir():
        return zarr.open_group(LocalStore(path, read_only=True), mode='r')
    with zipfile.ZipFile(path) as file:
        roots = {name.rpartition('/')[0] for name in file.namelist() if name.rpartition('/')[2] in ROOT_FILES}
    if not roots:
        raise UserError('is a zip file without OME-Zarr in it')
    root = min(roots, key=lambda name: (name.count('/') + bool(name), name))
    return zarr.open_group(ZipStore(path, mode='r', read_only=True), mode='r', path=root)


def _first_image(group: object) -> tuple:
    """The group of the first image, and the number of images (of bioformats2raw's layout).

    Raises:
        UserError: If the group is something else.
    """
    attributes = dict(group.attrs)
    content = attributes.get('ome', attributes)
    if 'multiscales' in content:
        return group, 1
    if 'plate' in content or 'well' in content:
        raise UserError('is a plate; name one of its images, such as PLATE.zarr/A/1/0')
    if 'bioformats2raw.layout' in content:
        series = sum(name.isdecimal() for name in group.group_keys())
        return _first_image(group['0'])[0], series
    raise UserError('is Zarr, but holds no image of OME (no multiscales)')


def _open_array(group: object, name: str) -> object:
    """The array of a resolution.

    Raises:
        UserError: If its name leads elsewhere, or reading it could run a program.
    """
    if not name or any(part in ('', '.', '..') for part in name.split('/')):
        raise UserError(f'the path {name!r} of a resolution leads elsewhere')
    array = group[name]
    unknown = _codecs(array.metadata.to_dict()) - CODECS
    if unknown:
        raise UserError(f'is packed by {sorted(unknown)[0]!r}, which is not read')
    return array


def _codecs(metadata: dict) -> set:
    """Names of all codecs of an array, also those within shards."""
    queue, found = [metadata.get(key) for key in ('codecs', 'compressor', 'filters')], set()
    while queue:
        value = queue.pop()
        if isinstance(value, dict):
            found |= {str(value[key]) for key in ('id', 'name') if key in value}
            configuration = value.get('configuration') or {}
            queue += [configuration.get(key) for key in ('codecs', 'index_codecs')]
        elif isinstance(value, (list, tuple)):
            queue += value
    return found


def _axes(multiscale: dict, count: int) -> tuple:
    """Names of the axes, and the units of those that have one."""
    axes = multiscale.get('axes') or DEFAULT_AXES[-count:]
    axes = [axis if isinstance(axis, dict) else dict(name=axis) for axis in axes]
    names = [str(axis['name']) for axis in axes]
    if len(names) != count or len(set(names)) != count:
        raise UserError(f'its axes {", ".join(names)} are not those of an array with {count}')
    return names, {str(axis['name']): axis.get('unit') for axis in axes}


def _scale(multiscale: dict, count: int) -> list | None:
    """What a px of the full resolution is along each axis; None if the store does not say."""
    found = None
    for transformations in (
        multiscale['datasets'][0].get('coordinateTransformations'),
        multiscale.get('coordinateTransformations'),
    ):
        for entry in transformations or []:
            if entry.get('type') == 'scale' and len(entry.get('scale', ())) == count:
                found = [one * float(other) for one, other in zip(found or [1.0] * count, entry['scale'], strict=True)]
    return found


def _pixel_size(scale: dict, units: dict) -> float | None:
    """Micrometres a px; None if the unit is missing or unknown, or px are not square."""
    x, y = (scale[axis] * UNITS.get(units.get(axis), math.nan) for axis in 'xy')
    return checked_pixel_size(x, y)


def _channel_order(channels: int, content: dict) -> tuple:
    """Indices of red, green and blue among three channels (of the only one else), and a note."""
    if channels == 1:
        return [0], ''
    described = content.get('omero') or {}
    colors = [str(channel.get('color', '')).removeprefix('#').upper() for channel in described.get('channels', [])]
    if sorted(colors) == sorted(PRIMARY):
        return [colors.index(color) for color in PRIMARY], ''
    return [0, 1, 2], 'three channels, taken for red, green and blue'
