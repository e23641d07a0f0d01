"""Checks of a prepared data set, before training on it.

The data set is read once, into :class:`Images`, :class:`CellTable`, :class:`Maps` and the results of
:func:`read_files`; each check is a function of these. Thumbnails do not show that an image is a crop of another.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from cellseg_mm.structures import read_layers
from cellseg_mm.utils import UserError, markdown_table
from cellseg_mm.utils.coco_file import is_box, is_number, read_coco

from .formats.sample import MAX_COVER, MAX_OVERLAP, MAX_PARTS, count_parts, overlapping_pairs
from .splits import SPLITS

THUMBNAIL_SIDE = 32
# Of thumbnails. Different images reached 0.35 among the 41 of CoNSeP; among 64 drawn ones 0.33, and 0.55 for two of
# 33x86 px. Copies at JPEG quality 50, at half the size, blurred by 2 px, or brightened by 15 % into white kept 0.94.
MIN_CORRELATION = 0.9
# Grey levels; the standard deviation of a thumbnail that shows anything.
MIN_CONTRAST = 1
# The most between the shares of a class in val or test and in train.
MAX_SHARE_RATIO = 3
# Of cells that touch the border. Cells of d px strewn over tiles of S px do so in a share of 1 - ((S - d) / (S + d))^2,
# which is a half if S is about 6 d: such tiles are small for their cells.
MAX_BORDER_SHARE = 0.5
# In px; a smaller cell cannot be recognised.
MIN_AREA = 10
# Between the logarithm of an area and the median of its class, in robust standard deviations (1.4826 times the median
# absolute deviation). At 5, cells of CoNSeP that are flagged and not below MIN_AREA are fragments of 10 to 29 px.
MAX_DEVIATION = 5
# The least standard deviation, about a tenth of the area, because cells of a class may be almost equal.
MIN_SPREAD = 0.1
# Share of an image's pixels in ignored regions.
MAX_IGNORED_SHARE = 0.5
# The most rows of a table, and warnings of one kind.
MAX_ROWS = 20


class Check(NamedTuple):
    """The result of a check.

    Attributes:
        summary: What was checked, by which rule, in one line.
        warnings: One line each; empty if all is well.
        table: Markdown, or empty.
    """

    summary: str
    warnings: list
    table: str = ''


class Images(NamedTuple):
    """N images.

    Attributes:
        names: (N,) str, file names.
        splits: (N,) int64, indices into :data:`SPLITS`.
        sizes: (N, 2) int64 (H, W) in px.
        maps: (N,) str, file names of the id maps, empty for an image without labels.
        ignored: N lists of the ids of ignored regions in the maps.
    """

    names: np.ndarray
    splits: np.ndarray
    sizes: np.ndarray
    maps: np.ndarray
    ignored: list

    def places(self) -> list:
        """``split/name`` of each."""
        return [f'{SPLITS[split]}/{name}' for split, name in zip(self.splits, self.names, strict=True)]


class CellTable(NamedTuple):
    """M cells of the images, without ignored regions.

    Attributes:
        images: (M,) int64, index of the image.
        labels: (M,) int64, class index from 0.
        areas: (M,) int64 px.
        boxes: (M, 4) int64 [x, y, width, height] in px.
    """

    images: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray

    def on_border(self, images: Images) -> np.ndarray:
        """(M,) bool, whether the box reaches the image's edge."""
        ends = self.boxes[:, :2] + self.boxes[:, 2:]
        return ((self.boxes[:, :2] <= 0) | (ends >= images.sizes[self.images, ::-1])).any(axis=1)


class Maps(NamedTuple):
    """What the id maps of N images show.

    Attributes:
        overlaps: (P, 3) int64: index of the image, and ids of two cells that share more than :data:`MAX_OVERLAP` of the
            smaller.
        parts: (Q, 3) int64: index of the image, id of a cell in more than :data:`MAX_PARTS` separate parts, number of
            parts.
        ignored: (N,) float64, share of the image's pixels in ignored regions and not in a cell.
    """

    overlaps: np.ndarray
    parts: np.ndarray
    ignored: np.ndarray


def read_maps(root: Path, images: Images) -> Maps:
    """Look into the id maps of a prepared data set; missing and unreadable ones are skipped."""
    overlaps, parts, ignored = [], [], np.zeros(len(images.names))
    for index in np.flatnonzero(images.maps != ''):
        try:
            layers = read_layers(Path(root) / 'instances' / images.maps[index]).astype(np.int64)
        except OSError:
            continue
        is_region = np.isin(layers, images.ignored[index])
        cells = np.where(is_region, 0, layers)
        ignored[index] = (is_region.any(axis=0) & ~cells.any(axis=0)).mean()
        overlaps += [(index, *pair) for pair in overlapping_pairs(cells)]
        ids = np.unique(cells[cells > 0])
        counts = count_parts(cells, ids)
        parts += [(index, ids[place], counts[place]) for place in np.flatnonzero(counts > MAX_PARTS)]
    return Maps(np.array(overlaps, int).reshape(-1, 3), np.array(parts, int).reshape(-1, 3), ignored)


def read_annotations(root: Path) -> tuple:
    """The annotations of a prepared data set.

    Returns:
        tuple: :class:`Images`, :class:`CellTable` and the names of the C classes, list[str].

    Raises:
        UserError: If it is not a prepared data set, with the first wrong entry.
    """
    images, cells, ignored = [], [], []
    for split, split_name in enumerate(SPLITS):
        content = _read_split(root, split_name)
        classes = [entry['name'] for entry in content['categories']]
        label_of = {entry['id']: label for label, entry in enumerate(content['categories'])}
        index_of = {entry['id']: index for index, entry in enumerate(content['images'], start=len(images))}
        images += [
            (entry['file_name'], split, (entry['height'], entry['width']), entry.get('instance_map', ''))
            for entry in content['images']
        ]
        cells += [
            (index_of[entry['image_id']], label_of[entry['category_id']], entry['area'], entry['bbox'])
            for entry in content['annotations']
            if not entry['iscrowd']
        ]
        ignored += [[] for _ in content['images']]
        for entry in content['annotations']:
            if entry['iscrowd'] and 'instance_id' in entry:
                ignored[index_of[entry['image_id']]].append(entry['instance_id'])
    if not images:
        raise UserError(f'{root}: its annotations list no images')
    names, splits, sizes, maps = map(np.array, zip(*images, strict=True))
    indices, labels, areas, boxes = map(np.array, zip(*cells, strict=True)) if cells else np.zeros((4, 0), int)
    cells = CellTable(indices, labels, areas, boxes.reshape(-1, 4))
    return Images(names, splits, sizes, maps, ignored), cells, classes


def _read_split(root: Path, split: str) -> dict:
    """The annotation file of a split, with the keys that tools/prepare_data.py writes."""
    path = Path(root) / 'annotations' / f'{split}.json'
    return read_coco(
        path,
        'tools/prepare_data.py makes a prepared data set',
        area=(is_number, 'a finite number'),
        bbox=(is_box, '4 finite numbers [x, y, w, h]'),
        iscrowd=(lambda value: value in (0, 1), '0 or 1'),
    )


def read_files(root: Path, images: Images) -> tuple:
    """Look into the image and the id map of each, with a progress bar.

    Returns:
        tuple: (N, S, S) float32 thumbnails, grey and squeezed to a square; (N,) str digests of all pixels; list[str] of
        missing files and of sizes that differ from the annotations. A missing image has zeros and ''.
    """
    thumbnails = np.zeros((len(images.names), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.float32)
    digests, problems = [''] * len(images.names), []
    for index, name in enumerate(tqdm(images.names, desc='reading images', unit='image')):
        shapes = {}
        stored = cv2.imread(str(Path(root) / 'images' / name))
        shapes[f'images/{name}'] = None if stored is None else stored.shape[:2]
        if stored is not None:
            digests[index] = hashlib.sha256(repr(stored.shape).encode() + stored.tobytes()).hexdigest()
            grey = cv2.cvtColor(stored, cv2.COLOR_BGR2GRAY).astype(np.float32)
            thumbnails[index] = cv2.resize(grey, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
        if images.maps[index]:
            shapes[f'instances/{images.maps[index]}'] = _map_shape(Path(root) / 'instances' / images.maps[index])
        height, width = images.sizes[index].tolist()
        for file, shape in shapes.items():
            if shape is None:
                problems.append(f'{file} is missing or not readable')
            elif shape != (height, width):
                problems.append(f'{file} has {shape[1]}x{shape[0]} px, the annotations say {width}x{height}')
    return thumbnails, np.array(digests), problems


def _map_shape(path: Path) -> tuple | None:
    try:
        return read_layers(path).shape[1:]
    except OSError:
        return None


def check_files(images: Images, problems: list) -> Check:
    """Whether all files are there with the right size, from the problems of :func:`read_files`."""
    counts = f'{len(images.names):,} images, {np.count_nonzero(images.maps != ""):,} id maps'
    return Check(f'{counts}; missing or of another size: {len(problems)}', _capped(problems))


def best_correlation(thumbnails: np.ndarray) -> np.ndarray:
    """The highest correlation of each two thumbnails over the eight flips and turns of one of them.

    Args:
        thumbnails (ndarray): (N, S, S) grey levels.

    Returns:
        ndarray: (N, N) -1..1; 0 for a thumbnail without contrast.
    """
    count = len(thumbnails)
    centred = (thumbnails - thumbnails.mean(axis=(1, 2), keepdims=True)).astype(np.float32)
    norms = np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    shows_nothing = norms < MIN_CONTRAST * thumbnails.shape[1]
    unit = np.where(shows_nothing, 0, centred / np.where(shows_nothing, 1, norms))
    best = np.full((count, count), -1, np.float32)
    for flipped in (unit, unit.transpose(0, 2, 1)):
        for turns in range(4):
            turned = np.rot90(flipped, turns, axes=(1, 2)).reshape(count, -1)
            np.maximum(best, turned @ unit.reshape(count, -1).T, out=best)
    return best


def check_duplicates(images: Images, thumbnails: np.ndarray, digests: np.ndarray) -> Check:
    """Whether splits share images: equal pixels, or copies, recoded, brightened, resized, flipped or turned."""
    correlation = best_correlation(thumbnails)
    same = (digests[:, None] == digests) & (digests != '')
    alike = ((correlation > MIN_CORRELATION) | same) & (images.splits[:, None] < images.splits)
    pairs = sorted(np.argwhere(alike).tolist(), key=lambda pair: -correlation[tuple(pair)])
    places = images.places()
    rows = [
        [places[one], places[other], 'same pixels' if same[one, other] else f'{correlation[one, other]:.3f}']
        for one, other in pairs
    ]
    return Check(
        f'pairs of different splits that correlate by more than {MIN_CORRELATION}, flipped or turned: {len(pairs)}',
        ['splits share images, so metrics do not show how a model does on new ones'] if pairs else [],
        _capped_table(['image', 'other image', 'correlation'], rows),
    )


def check_class_balance(images: Images, cells: CellTable, classes: list) -> Check:
    """Whether each labelled split has each class, in a similar share as train."""
    counts = np.zeros((len(SPLITS), len(classes)), int)
    np.add.at(counts, (images.splits[cells.images], cells.labels), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labelled = np.bincount(images.splits, images.maps != '', len(SPLITS)) > 0
    warnings = []
    for split in np.flatnonzero(labelled):
        for label, name in enumerate(classes):
            share, in_train = shares[split, label], shares[0, label]
            if not counts[split, label]:
                warnings.append(f'{SPLITS[split]} has no cell of class {name}')
            elif in_train and not 1 / MAX_SHARE_RATIO <= share / in_train <= MAX_SHARE_RATIO:
                warnings.append(f'{name} is {share:.1%} of the cells of {SPLITS[split]}, but {in_train:.1%} in train')
    header = ['class', *(text for split in SPLITS for text in (split, 'share'))]
    rows = [
        [name, *(text for pair in zip(counts[:, label], shares[:, label], strict=True) for text in _count(*pair))]
        for label, name in enumerate(classes)
    ]
    return Check(f'{len(cells.labels):,} cells', warnings, markdown_table(header, rows))


def _count(count: int, share: float) -> tuple:
    return f'{count:,}', f'{share:.1%}'


def check_border(images: Images, cells: CellTable) -> Check:
    """How many cells touch the border of their image, where they are probably cut."""
    splits, on_border = images.splits[cells.images], cells.on_border(images)
    shares = {name: on_border[splits == split].mean() for split, name in enumerate(SPLITS) if (splits == split).any()}
    warnings = [
        f'{share:.1%} of the cells of {name} are on the border; larger images would show them whole'
        for name, share in shares.items()
        if share > MAX_BORDER_SHARE
    ]
    summary = ', '.join(f'{share:.1%} of {name}' for name, share in shares.items())
    return Check(f'cells that touch it: {summary or "none"} (limit {MAX_BORDER_SHARE:.0%})', warnings)


def check_sizes(images: Images, cells: CellTable, classes: list) -> Check:
    """Cells of fewer than :data:`MIN_AREA` px, or of a very different size than the others of their class.

    A cell on the border may be cut, so it does not count for the median, and cannot be too small.
    """
    logs, whole = np.log(np.maximum(cells.areas, 1)), ~cells.on_border(images)
    medians, deviations = np.zeros(len(logs)), np.zeros(len(logs))
    for label in np.unique(cells.labels):
        members = cells.labels == label
        standard = logs[members & whole] if (members & whole).any() else logs[members]
        median = np.median(standard)
        spread = max(1.4826 * np.median(np.abs(standard - median)), MIN_SPREAD)
        medians[members], deviations[members] = np.exp(median), (logs[members] - median) / spread
    absurd = (cells.areas < MIN_AREA) | (deviations > MAX_DEVIATION) | (whole & (deviations < -MAX_DEVIATION))
    order = np.flatnonzero(absurd)
    order = order[np.argsort(-np.abs(deviations[order]), kind='stable')]
    places = images.places()
    rows = [
        [
            places[cells.images[index]],
            classes[cells.labels[index]],
            cells.areas[index],
            round(medians[index]),
            ' '.join(map(str, cells.boxes[index].tolist())),
        ]
        for index in order
    ]
    return Check(
        f'below {MIN_AREA} px, or off the class by more than {MAX_DEVIATION} robust standard deviations of log area: '
        f'{len(order):,} of {len(logs):,} cells',
        ['look at these cells: are they fragments, or several cells in one?'] if len(order) else [],
        _capped_table(['image', 'class', 'area in px', 'median of the class', 'x y width height'], rows),
    )


def check_empty(images: Images, cells: CellTable) -> Check:
    """Labelled images without a cell."""
    labelled = images.maps != ''
    empty = labelled & (np.bincount(cells.images, minlength=len(images.names)) == 0)
    places = images.places()
    warnings = [f'{places[index]}: is there no cell, or is its mask missing?' for index in np.flatnonzero(empty)]
    return Check(f'{empty.sum():,} of {labelled.sum():,} labelled images have no cell', _capped(warnings))


def check_overlaps(images: Images, maps: Maps) -> Check:
    """Cells over one another: labelled twice, as by two annotators, or nuclei within cells."""
    counts = np.bincount(maps.overlaps[:, 0], minlength=len(images.names))
    return Check(
        f'pairs of cells that share more than {MAX_OVERLAP:.0%} of the smaller: {len(maps.overlaps):,} in '
        f'{np.count_nonzero(counts):,} images',
        ['is a cell labelled twice, as by two annotators, or together with its nucleus?'] if counts.any() else [],
        _image_table(images, counts, 'pairs'),
    )


def check_parts(images: Images, maps: Maps) -> Check:
    """Cells in many separate parts: several cells, or a whole class, with one id."""
    counts = np.bincount(maps.parts[:, 0], minlength=len(images.names))
    return Check(
        f'cells in more than {MAX_PARTS} separate parts: {len(maps.parts):,} in {np.count_nonzero(counts):,} images, '
        f'at most {maps.parts[:, 2].max(initial=0)} parts',
        ['are they several cells of one id or outline?'] if counts.any() else [],
        _image_table(images, counts, 'cells'),
    )


def check_ignored(images: Images, maps: Maps) -> Check:
    """How much of the labelled images ignored regions cover."""
    labelled = images.maps != ''
    pixels = images.sizes.prod(axis=1)
    share = np.average(maps.ignored[labelled], weights=pixels[labelled]) if labelled.any() else 0
    many = maps.ignored > MAX_IGNORED_SHARE
    return Check(
        f'{share:.1%} of the pixels of labelled images are in regions to ignore; {np.count_nonzero(many):,} images of '
        f'more than {MAX_IGNORED_SHARE:.0%}',
        ['nothing is learnt or scored there; are these regions meant to be ignored?'] if many.any() else [],
        _image_table(images, np.where(many, maps.ignored, 0), 'ignored share'),
    )


def check_cover(images: Images, cells: CellTable) -> Check:
    """Cells that cover most of their image: its frame, or the region that was annotated."""
    covers = cells.areas > MAX_COVER * images.sizes.prod(axis=1)[cells.images]
    counts = np.bincount(cells.images[covers], minlength=len(images.names))
    return Check(
        f'cells that cover more than {MAX_COVER:.0%} of their image: {np.count_nonzero(covers):,} in '
        f'{np.count_nonzero(counts):,} images',
        ['are they cells, or the field that was annotated?'] if covers.any() else [],
        _image_table(images, counts, 'cells'),
    )


def _image_table(images: Images, values: np.ndarray, title: str) -> str:
    """A table of the images with a value above 0, the largest first."""
    order = np.argsort(-values, kind='stable')
    places = images.places()
    return _capped_table(['image', title], [[places[index], values[index].item()] for index in order if values[index]])


def check_anchors(best_iou: np.ndarray, labels: np.ndarray, classes: list, iou_thr: float, max_share: float) -> Check:
    """How many training cells fit no anchor of a config and cannot be learnt.

    Args:
        best_iou (ndarray): (M,) best IoU of each training cell with any anchor.
        labels (ndarray): (M,) class indices.
        classes (list[str]): Names.
        iou_thr (float): Best IoU below which a cell is missed.
        max_share (float): Share of missed cells above which to warn.
    """
    missed = best_iou < iou_thr
    share = missed.mean() if len(missed) else 0
    rows = []
    for label, name in enumerate(classes):
        of_class = missed[labels == label]
        rows.append([name, f'{len(of_class):,}', f'{of_class.mean():.1%}' if len(of_class) else None])
    warnings = ['smaller anchors (scales of the anchor_generator) or a larger input (Resize) fit small cells better']
    return Check(
        f'best anchor IoU below {iou_thr} for {share:.1%} of {len(missed):,} training cells (limit {max_share:.0%})',
        warnings if share > max_share else [],
        markdown_table(['class', 'training cells', 'missed'], rows),
    )


def check_prepared_set(root: Path) -> dict:
    """All checks except that of the anchors.

    Args:
        root (Path): The prepared data set.

    Returns:
        dict[str, Check]: By title.

    Raises:
        UserError: See :func:`read_annotations`.
    """
    images, cells, classes = read_annotations(root)
    thumbnails, digests, problems = read_files(root, images)
    maps = read_maps(root, images)
    return {
        'files': check_files(images, problems),
        'duplicates': check_duplicates(images, thumbnails, digests),
        'class balance': check_class_balance(images, cells, classes),
        'border': check_border(images, cells),
        'sizes': check_sizes(images, cells, classes),
        'empty images': check_empty(images, cells),
        'overlaps': check_overlaps(images, maps),
        'parts': check_parts(images, maps),
        'ignored': check_ignored(images, maps),
        'cover': check_cover(images, cells),
    }


def checks_text(checks: dict) -> str:
    """The checks for a terminal: verdict, title and summary, then the table and the warnings of each."""
    blocks = []
    for title, check in checks.items():
        lines = [f'{"WARNING" if check.warnings else "ok":8}{title}: {check.summary}']
        lines += [f'        {line}' for line in [*check.table.splitlines(), *(f'! {text}' for text in check.warnings)]]
        blocks.append('\n'.join(lines))
    return '\n'.join(blocks)


def _capped(lines: list) -> list:
    more = len(lines) - MAX_ROWS
    return [*lines[:MAX_ROWS], f'and {more} more'] if more > 0 else lines


def _capped_table(header: list, rows: list) -> str:
    """A table of the first rows; empty without rows."""
    more = len(rows) - MAX_ROWS
    table = markdown_table(header, rows[:MAX_ROWS]) if rows else ''
    return f'{table}\nand {more} more' if more > 0 else table
