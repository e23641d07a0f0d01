"""The samples of all formats; each reads its own image and instances."""

import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage
from skimage import measure

from cellseg_mm.images import open_image, tiff_pages
from cellseg_mm.structures import instance_extents, relabel, stack_layers
from cellseg_mm.utils import UserError

from .regions import IGNORE_WORDS

IMAGE_SUFFIXES = ('.png', '.tif', '.tiff', '.jpg', '.jpeg', '.bmp', '.jp2', '.webp', '.svs')
SPLIT_NAMES = dict(
    train='train', training='train', val='val', valid='val', validation='val', test='test', testing='test'
)
# The most parts of a normal cell, counting those of MIN_PART_AREA px and a quarter of the largest one's area.
MAX_PARTS = 4
MIN_PART_AREA = 10
MAX_MEAN_PARTS = 2.5  # of all cells of an image
PARTS_NOTE = f'cells in more than {MAX_PARTS} separate parts'
# Share of the image's pixels that one cell covers.
MAX_COVER = 0.5
COVER_NOTE = f'cells that cover more than {MAX_COVER:.0%} of their image'
# Share of the area inside a cell's outer border; a cell with a larger hole is a line around a cell.
MAX_HOLE = 1 / 3
MIN_ALIKE = 3  # cells of an image that are lines or rectangles; they must also be most of its cells
MIN_SIDE = 4  # px of a rectangle; smaller cells may fill their box
BOX_NOTE = 'cells that are upright rectangles: boxes in place of outlines?'
IGNORE_NOTE = (
    'cells of a class whose name says to ignore them, counted as cells (to ignore them, end the name with * in QuPath '
    'or set iscrowd in COCO)'
)
# Share of the smaller of two cells; more overlap is a cell drawn twice, or a nucleus in its cell.
MAX_OVERLAP = 0.5
OVERLAP_NOTE = (
    f'pairs of cells that share more than {MAX_OVERLAP:.0%} of the smaller (drawn twice, or nuclei in cells?)'
)
# The most pieces per id, and pieces more than ids, of a map whose ids are cells.
MAX_PIECES = 2.5
MAX_SPECKS = 5
ALL_OF_8_BITS = 255
# In some maps an id is a multiple of one of these, for the class, plus the number of the cell.
CLASS_FACTORS = (256, 1000, 10_000, 100_000, 65_536)
CLASSES_IN_IDS_NOTE = (
    'cells whose ids are a class times {} and a number: the class was not read (a format with classes keeps it)'
)
# Of Pillow's formats and of tifffile's compressions.
LOSSY_FORMATS = ('JPEG', 'MPO', 'WEBP', 'JPEG2000', 'AVIF')
LOSSLESS = ('NONE', 'CCITTRLE', 'CCITT_T4', 'CCITT_T6', 'LZW', 'ADOBE_DEFLATE', 'DEFLATE', 'PACKBITS', 'LZMA', 'ZSTD')
# Of an image that is read as a whole, about 10,000 x 10,000; more is a slide, or a wrong header.
MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Instances:
    """The labels of one image.

    Attributes:
        layers: (L, H, W) int32 id layers with the ids 1..N (see :func:`cellseg_mm.structures.lay_runs`).
        labels: (N,) int64 class numbers from 1; 0 is a region of every class, which must be ignored.
        is_ignored: (N,) bool, True for an ignored region (COCO's ``iscrowd``).
        left_out: Number of outlines without a pixel, which are not among the N.
        notes: Decisions about objects of the file, in words, with the number of objects.
    """

    layers: np.ndarray
    labels: np.ndarray
    is_ignored: np.ndarray
    left_out: int = 0
    notes: dict = field(default_factory=dict)

    @classmethod
    def of_one_class(cls, id_map: np.ndarray, count: int, notes: dict | None = None) -> 'Instances':
        """All cells of an id map, (H, W) int32 with the ids 1..``count``, as cells of the only class."""
        return cls(id_map[None], np.ones(count, np.int64), np.zeros(count, bool), notes=notes or {})


@dataclass(frozen=True)
class Sample:
    """One image of the source; each format derives a class with :meth:`read_instances`.

    Attributes:
        name: Unique in the data set, and a legal file stem.
        split: ``'train'``, ``'val'`` or ``'test'``.
        image: The image's file.
        source: Where the labels are, in the form of the format; None without labels.
        classes: Class names that the format's ``find_samples`` was given or found.
        image_id: The id in the source, or None.
        group: The patient or slide, if the format names it, or None.
        part: ``'cell'`` or ``'nucleus'``, where both have an outline.
    """

    name: str
    split: str
    image: Path
    source: object
    classes: tuple
    image_id: int | None = None
    group: str | None = None
    part: str = 'cell'

    def read_image(self) -> tuple:
        """The image.

        Returns:
            tuple: (H, W, 3) uint8 in the file's channel order; in words how a file was converted that is not plain
            8-bit RGB, otherwise ``''``; and micrometres a px, None if the file does not say.

        Raises:
            UserError: If it cannot be read, or is too large to be read as a whole.
        """
        source = open_image(self.image)
        check_size(self.image, source.height, source.width)
        return source.read(0, 0, source.width, source.height), source.note, source.pixel_size

    def read_labels(self, shape: tuple) -> Instances:
        """The labels, see :meth:`read_instances`, checked.

        Raises:
            UserError: If most cells are in many separate parts, which are the cells; if most are lines around empty
                places; or if the background is one of the ids.
        """
        instances = self.read_instances(shape)
        parts = count_parts(instances.layers, np.flatnonzero(~instances.is_ignored) + 1)
        scattered = parts > MAX_PARTS
        if scattered.sum() > len(parts) / 2 or (len(parts) > 1 and parts.mean() > MAX_MEAN_PARTS):
            raise UserError(
                f'{labels_file(self)}: its {len(parts)} cells are in {parts.sum()} separate parts, one in '
                f'{parts.max()}; each cell needs its own id or outline'
            )
        areas = np.bincount(instances.layers.ravel(), minlength=len(instances.labels) + 1)[1:]
        is_cover = (areas > MAX_COVER * shape[0] * shape[1]) & ~instances.is_ignored
        pairs = overlapping_pairs(
            np.where(np.append(False, instances.is_ignored)[instances.layers], 0, instances.layers)
        )
        is_cell = ~instances.is_ignored
        shapes = cell_shapes(instances.layers, np.flatnonzero(is_cell) + 1)
        if (is_cover[is_cell] & shapes.is_around).any():
            raise UserError(
                f'{labels_file(self)}: one of its ids covers {areas[is_cover].max() / np.prod(shape):.0%} of the image '
                'and lies around the rest, as the background does; set it to 0'
            )
        if is_most(shapes.holes > MAX_HOLE):
            raise UserError(
                f'{labels_file(self)}: {np.count_nonzero(shapes.holes > MAX_HOLE)} of its {len(parts)} cells are lines '
                'around empty places; fill them'
            )
        to_ignore = [
            number for number, name in enumerate(self.classes, 1) if any(word in name.lower() for word in IGNORE_WORDS)
        ]
        notes = {
            PARTS_NOTE: int(scattered.sum()),
            COVER_NOTE: int(is_cover.sum()),
            OVERLAP_NOTE: len(pairs),
            BOX_NOTE: int(shapes.is_box.sum()) if is_most(shapes.is_box) else 0,
            IGNORE_NOTE: int((is_cell & np.isin(instances.labels, to_ignore)).sum()),
        }
        notes.update(instances.notes)
        return replace(instances, notes={note: count for note, count in notes.items() if count})

    def read_instances(self, shape: tuple) -> Instances:
        """The labels of an image that has some.

        Args:
            shape (tuple): (H, W) of its image.

        Raises:
            UserError: If they are broken or of another size; the message names the file.
        """
        raise NotImplementedError


class CellShapes(NamedTuple):
    """Signs that N cells are not drawn as areas.

    Attributes:
        holes: (N,) float, share of the area inside the outer border that is empty.
        is_box: (N,) bool, whether it is an upright rectangle.
        is_around: (N,) bool, whether it reaches all four sides of the image and has a hole.
    """

    holes: np.ndarray
    is_box: np.ndarray
    is_around: np.ndarray


def cell_shapes(layers: np.ndarray, numbers: np.ndarray) -> CellShapes:
    """The shapes of N cells.

    Args:
        layers (ndarray): (L, H, W) int32 id layers.
        numbers (ndarray): (N,) ids of the cells.
    """
    found = {}
    for layer in layers:
        for number, place in enumerate(ndimage.find_objects(layer), start=1):
            if place is None:
                continue
            inside = layer[place] == number
            area, filled = np.count_nonzero(inside), np.count_nonzero(ndimage.binary_fill_holes(inside))
            is_box = area == inside.size and min(inside.shape) >= MIN_SIDE
            found[number] = 1 - area / filled, is_box, filled > area and inside.shape == layer.shape
    columns = np.array([found[number] for number in numbers.tolist()], float).reshape(-1, 3).T
    return CellShapes(columns[0], columns[1] > 0, columns[2] > 0)


def is_most(chosen: np.ndarray) -> bool:
    """Whether more than half of an image's cells, (N,) bool, are chosen, and at least :data:`MIN_ALIKE`."""
    count = np.count_nonzero(chosen)
    return bool(count >= MIN_ALIKE and count > len(chosen) / 2)


def class_in_ids_notes(mask: np.ndarray) -> dict:
    """A note if the ids of a map (H, W) are a class times a factor plus a number, as in Cityscapes.

    Then each id exceeds a multiple of the factor by at most the number of ids.
    """
    ids = np.unique(mask[mask > 0]).astype(np.int64)
    for factor in CLASS_FACTORS:
        is_short = MIN_ALIKE <= len(ids) <= factor / 4
        if is_short and ids[0] >= factor and ids[0] // factor < ids[-1] // factor and (ids % factor).max() <= len(ids):
            return {CLASSES_IN_IDS_NOTE.format(factor): len(ids)}
    return {}


def labels_file(sample: Sample) -> Path:
    """The file to name in messages about the labels of a sample; its image if the labels are several files."""
    source = sample.source[0] if isinstance(sample.source, tuple) else sample.source
    return source if isinstance(source, Path) else sample.image


def count_parts(layers: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """(K,) number of separate parts of each instance, which touch neither at a side nor at a corner.

    A part counts if it has :data:`MIN_PART_AREA` px and a quarter of the largest one's area.

    Args:
        layers (ndarray): (L, H, W) int32 id layers.
        ids (ndarray): (K,) ids in them.
    """
    counts = np.zeros(max(layers.max(initial=0), ids.max(initial=0)) + 1, np.int64)
    for layer in layers:
        pieces = measure.label(layer, background=0, connectivity=2)  # of equal ids, even if they touch others
        areas = np.bincount(pieces.ravel())
        owner, largest = np.zeros(len(areas), np.int64), np.zeros(len(counts), np.int64)
        owner[pieces.ravel()] = layer.ravel()
        areas[0] = 0
        np.maximum.at(largest, owner, areas)
        is_part = areas >= np.maximum(MIN_PART_AREA, largest[owner] / 4)
        np.add.at(counts, owner[is_part], 1)
    return counts[ids]


def overlapping_pairs(layers: np.ndarray) -> list:
    """Pairs of ids of instances that share more than :data:`MAX_OVERLAP` of the smaller one's pixels.

    Args:
        layers (ndarray): (L, H, W) id layers.
    """
    if len(layers) < 2:
        return []
    ids = np.arange(layers.max(initial=0) + 1)
    areas = np.sum([instance_extents(layer, ids)[1] for layer in layers], axis=0)
    found = {}
    for lower in range(len(layers)):
        for upper in range(lower + 1, len(layers)):
            both = (layers[lower] > 0) & (layers[upper] > 0)
            pairs = np.stack([layers[lower][both], layers[upper][both]], axis=1)
            for (one, other), shared in zip(*np.unique(pairs, axis=0, return_counts=True), strict=True):
                found[one, other] = found.get((one, other), 0) + shared
    return [(int(a), int(b)) for (a, b), shared in found.items() if shared > MAX_OVERLAP * min(areas[a], areas[b])]


def check_size(path: Path, height: int, width: int) -> None:
    """Raise :class:`UserError` for an image of more than :data:`MAX_PIXELS`."""
    if height * width > MAX_PIXELS:
        raise UserError(f'{path}: {width}x{height} px; cut it into tiles of at most {MAX_PIXELS / 1e6:.0f} megapixels')


def split_folders(src: Path) -> list:
    """(split, folder) of the subfolders named after splits, train first; without any, all of ``src`` is train."""
    found = [
        (SPLIT_NAMES[path.name.lower()], path)
        for path in visible(src)
        if path.name.lower() in SPLIT_NAMES and path.is_dir()
    ]
    return sorted(found, key=lambda entry: list(SPLIT_NAMES.values()).index(entry[0])) or [('train', src)]


def loose_split_folders(src: Path) -> list:
    """As :func:`split_folders`, for subfolders with train, val or test anywhere in their names; may be empty."""
    found = [(re.search('train|val|test', path.name.lower()), path) for path in subfolders(src)]
    return sorted(((match[0], path) for match, path in found if match), key=lambda entry: entry[0] == 'test')


def visible(folder: Path, *suffixes: str) -> list:
    """The content of a folder, by name, without hidden files; empty if the folder is missing.

    Args:
        folder (Path): The folder.
        suffixes (str): Allowed endings in lower case, for files in any case; all if none is given.
    """
    paths = sorted(path for path in folder.glob('*') if not path.name.startswith('.'))
    return [path for path in paths if not suffixes or path.suffix.lower() in suffixes]


def subfolders(folder: Path) -> list:
    """The folders in a folder, by name, without hidden ones."""
    return [path for path in visible(folder) if path.is_dir()]


def walk_folders(folder: Path, depth: int) -> list:
    """A folder and those below it, down to ``depth`` levels, by name, without hidden ones."""
    below = subfolders(folder) if depth else []
    return [folder, *(place for inner in below for place in walk_folders(inner, depth - 1))]


def subfolder(folder: Path, name: str) -> Path:
    """The folder with a name, in any case, in a folder; it may be missing."""
    return next((path for path in visible(folder) if path.name.lower() == name.lower()), folder / name)


def by_stem(files: Iterable, *endings: str) -> dict:
    """Files by their stem, without the first of ``endings`` (in lower case) that it has.

    An accented letter becomes one character (NFC); macOS writes two.

    Raises:
        UserError: If two files have the same name.
    """
    found = {}
    for path in files:
        ending = next((ending for ending in endings if path.stem.lower().endswith(ending)), '')
        name = unicodedata.normalize('NFC', path.stem[: len(path.stem) - len(ending)])
        other = found.setdefault(name, path)
        if other is not path:
            raise UserError(f'{path}: {other.name} beside it has the same name, {name}; keep one of them')
    return found


def images_by_stem(folder: Path) -> dict:
    """The image files of a folder by their stem. An SVS file beside another image of its name is skipped.

    Raises:
        UserError: If two other images have the same name.
    """
    others = [suffix for suffix in IMAGE_SUFFIXES if suffix != '.svs']
    return by_stem(visible(folder, '.svs')) | by_stem(visible(folder, *others))


def pair_labels(images: dict, labels: dict, split: str) -> list:
    """Images and the files of their labels, by name: the first four arguments of a :class:`Sample`.

    Args:
        images (dict): Files by name.
        labels (dict): Files by name.
        split (str): In ``'test'`` images may come without labels.

    Returns:
        list[tuple]: (name, split, image, labels or None) of each image.

    Raises:
        UserError: For labels without an image, or an image without labels.
    """
    for name, path in labels.items():
        if name not in images:
            raise UserError(f'{path}: no image {name} for these labels')
    for name, path in images.items():
        if name not in labels and split != 'test':
            raise UserError(f'{path}: no labels for this image; only images of test may come without')
    return [(name, split, path, labels.get(name)) for name, path in sorted(images.items())]


def find_pairs(src: Path, places: Callable) -> list:
    """Images and the files of their labels in all splits of a source, see :func:`pair_labels`.

    Args:
        src (Path): The source folder.
        places (Callable): Takes the folder of a split and gives (images, labels), both files by name, of each place.
    """
    return [
        pair
        for split, folder in split_folders(src)
        for images, labels in places(folder)
        for pair in pair_labels(images, labels, split)
    ]


def class_number(name: str, classes: Sequence, where: str) -> int:
    """The number of a class, from 1, in any case and with any spaces.

    >>> class_number(' Tumor  cell', ['stroma', 'tumor cell'], 'cells.json')
    2

    Raises:
        UserError: If it is not one of the classes.
    """
    names = [plain_name(known) for known in classes]
    if plain_name(name) not in names:
        raise UserError(f'{where}: class {name!r} is not one of {", ".join(classes)}; see --classes')
    return names.index(plain_name(name)) + 1


def plain_name(name: str) -> str:
    """A class name without case and superfluous spaces, in which people differ."""
    return ' '.join(name.split()).casefold()


def one_class(classes: tuple | None, what: str) -> tuple:
    """The name of the only class of a format.

    Args:
        classes (tuple[str] | None): The given name; ``'cell'`` if None.
        what (str): What has one class, for the message.

    Raises:
        UserError: For more than one.
    """
    classes = classes or ('cell',)
    if len(classes) != 1:
        raise UserError(f'--classes {" ".join(classes)}: {what} has only one class; give one name')
    return classes


def read_mask(path: Path, shape: tuple, are_ids: bool = True) -> np.ndarray:
    """An id map in an image file: (H, W) whole numbers from 0, of an integer dtype.

    In an image with a palette, the indices are the ids, whatever the colours.

    Args:
        path (Path): The mask's file.
        shape (tuple): (H, W) of the image that it belongs to.
        are_ids (bool): Whether each value is one cell, so that many pieces with one value are an error.

    Raises:
        UserError: If it cannot be read, has another size or several pages, was compressed with loss, or holds anything
            but whole numbers from 0.
    """
    mask = _read_stored(path)
    if mask is None:
        raise UserError(f'{path}: not readable as a mask (truncated, or not an image file?)')
    return check_ids(mask, shape, path, are_ids)


def _read_stored(path: Path) -> np.ndarray | None:
    """The only page as stored, or None.

    tifffile reads plain TIFF in less than half of OpenCV's time, and 32-bit and 64-bit integers, which OpenCV cannot
    read, and does not turn values round where 0 is white, as in masks of ImageJ. OpenCV reads LZW, for which tifffile
    needs another package. Pillow reads every palette, which neither does.
    """
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            pages = sum(not page.is_reduced for page in tiff_pages(file))  # smaller copies do not count
            if pages > 1:
                raise UserError(f'{path}: has {pages} pages; save the mask as a single page')
            check_size(path, page.imagelength, page.imagewidth)
            if page.compression.name not in LOSSLESS:
                raise UserError(_lossy(path, page.compression.name))
            kind = page.photometric.name
            if page.is_memmappable or kind == 'MINISWHITE' or (page.dtype.kind in 'iu' and page.dtype.itemsize >= 4):
                return page.asarray()
            is_palette = kind == 'PALETTE'
    except tifffile.TiffFileError:
        kind, is_palette = _kind_of_image(path)
        if kind in LOSSY_FORMATS:
            raise UserError(_lossy(path, kind)) from None
    except UserError:
        raise
    except Exception:  # many kinds of errors where tags are damaged
        return None
    if not is_palette:
        return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except Exception:  # many kinds of errors
        return None


def _lossy(path: Path, kind: str) -> str:
    return f'{path}: is compressed as {kind}, which changes ids; save masks as PNG, or as TIFF with LZW or zlib'


def _kind_of_image(path: Path) -> tuple:
    """Pillow's name of the format, and whether the image has a palette; (None, False) if it is not an image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path) as image:
                check_size(path, image.height, image.width)
                return image.format, image.mode == 'P'
    except UserError:
        raise
    except Exception:  # many kinds of errors
        return None, False


def check_ids(mask: np.ndarray, shape: tuple, path: Path, are_ids: bool = True) -> np.ndarray:
    """See :func:`read_mask`, for an array of any dtype."""
    if mask.ndim != 2:
        raise UserError(f'{path}: a mask has one channel, this one has the shape {mask.shape}')
    if mask.shape != shape:
        raise UserError(f'{path}: {mask.shape[1]}x{mask.shape[0]} px, but its image has {shape[1]}x{shape[0]}')
    if mask.dtype.kind == 'f':
        mask = _whole_numbers(mask, path)
    elif mask.dtype.kind not in 'biu':
        raise UserError(f'{path}: ids must be whole numbers, found {mask.dtype}')
    if mask.min(initial=0) < 0:
        raise UserError(f'{path}: ids must not be negative, found {mask.min()}')
    if are_ids:
        _check_pieces(mask, path)
    return mask


def _check_pieces(mask: np.ndarray, path: Path) -> None:
    """Raise :class:`UserError` for scattered ids, as between two cells after a resize, or in a map of classes."""
    id_map, ids = relabel(mask)
    labels = measure.label(id_map, background=0, connectivity=2)
    areas = np.bincount(labels.ravel())[1:]
    pieces = len(areas)
    if ids == mask.max() == ALL_OF_8_BITS and np.count_nonzero(areas >= MIN_PART_AREA) > ids:
        raise UserError(
            f'{path}: has all {ids} ids of 8 bits, in {pieces} separate pieces: it had more cells than 8 bits can '
            'number; save it with 16 bits'
        )
    if (pieces > MAX_PIECES * ids and pieces > ids + MAX_SPECKS) or (ids > MAX_SPECKS and _are_specks(id_map)):
        raise UserError(
            f'{path}: its {ids} ids are in {pieces} separate pieces, of {np.median(areas):.0f} px at the median; each '
            'cell needs its own id, which a resize with interpolation or lossy compression destroys'
        )


def _are_specks(id_map: np.ndarray) -> bool:
    """Whether most ids have fewer than :data:`MIN_PART_AREA` px."""
    return bool(np.median(np.bincount(id_map.ravel())[1:]) < MIN_PART_AREA)


def _whole_numbers(mask: np.ndarray, path: Path) -> np.ndarray:
    with np.errstate(invalid='ignore'):
        ids = mask.astype(np.int32)
    if np.array_equal(ids, mask):
        return ids
    bad = ~np.isfinite(mask) | (mask != np.floor(mask)) | (np.abs(mask) > 2**53)
    if bad.any():
        row, col = np.argwhere(bad)[0]
        raise UserError(f'{path}: ids must be whole numbers, found {mask[row, col]} at row {row}, column {col}')
    return mask.astype(np.int64)


def lay_maps(masks: list, shape: tuple) -> tuple:
    """The layers of K id maps laid over one another.

    Args:
        masks (list[ndarray]): K maps (H, W) of whole numbers from 0, each with its own ids.
        shape (tuple): (H, W).

    Returns:
        tuple: (L, H, W) int32 layers in which the instances are numbered 1..N in the order of the maps and, within a
        map, of its ids; and (K,) int64 number of instances of each map. L is 1 if nothing overlaps.
    """
    ids, offset = np.zeros(shape, np.int64), 0
    insides = [mask > 0 for mask in masks]
    for mask, inside in zip(masks, insides, strict=True):
        if ids[inside].any():
            return stack_layers([relabel(mask)[0] for mask in masks])
        # in 64 bits: numpy would add in those of the mask, where 8 bits of one map overflow by the ids before it
        np.add(mask, offset, out=ids, where=inside, dtype=np.int64, casting='unsafe')
        offset += int(mask.max(initial=0))
    # usually nothing overlaps: then one map is renumbered instead of each, in the same order
    id_map, _ = relabel(ids)
    last = np.maximum.accumulate([0, *(id_map[inside].max(initial=0) for inside in insides)])
    return id_map[None], np.diff(last)
