"""COCO JSON: polygons, run-length codes compressed or not, and crowds.

::

    SRC.json, or SRC/*.json
    SRC/annotations/*.json                      # CVAT: instances_default.json, and images in images/default
    SRC/train/*.json, and valid/ and test/      # Roboflow: _annotations.coco.json beside the images

The word train, val or test in a file's name, or the name of its folder, gives its split; a single file is train. COCO's
files of other tasks (``captions_*`` and so on) are skipped. An image is looked up by its ``file_name``, with slashes of
either kind, beside the file and in ``images/``, there and one folder up, and in a folder there with the file's name
without ``instances_``. If the name leads elsewhere, as the upload folders of Label Studio do, only its end counts, with
or without the eight digits that Label Studio puts before it. Copies of an image by Roboflow (``NAME.rf.HASH.jpg``) stay
on one side of the split. Classes are the categories in the order of their ids, the same in all files, without an unused
one that is the supercategory of another: Roboflow writes such a root. A file of test may lack annotations.
:mod:`.rasterize` defines how polygons become pixels; pycocotools differs in a few pixels along slanted edges.

A crowd (``iscrowd``) is an ignored region: nothing of its class is scored there. But a crowd of a cell's size is a
cell, because CVAT's brush writes each cell as a crowd. In prepared data sets, whose annotations have an
``instance_id``, a crowd is always an ignored region. So is an annotation of any size with ``ignore``, also among its
``attributes`` as CVAT writes it. Annotations that enclose cells are regions around them, see :mod:`.regions`.

The layouts are described in ``site/content/en/docs/manual/advanced/formats/format-coco.md`` of cvat-ai/cvat, with
Datumaro's page on COCO that it names, and the page on dataset formats in the documentation of roboflow/rf-detr.
"""

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

import numpy as np

from cellseg_mm.structures import Runs, decode_runs, to_code
from cellseg_mm.utils import UserError, read_json

from .rasterize import lay_instances, rasterize, to_ring
from .regions import NO_RULES, Contents, RegionRules, find_regions, find_rules, look_inside, region_notes
from .sample import (
    MAX_COVER,
    SPLIT_NAMES,
    Instances,
    Sample,
    class_number,
    split_folders,
    subfolder,
    visible,
)

OTHER_TASKS = ('captions_', 'image_info_', 'labels_', 'panoptic_', 'person_keypoints_', 'stuff_')

# A crowd is a cell up to so many times the median area of the cells of its category.
MAX_CROWD_RATIO = 4
MIN_CELLS = 5  # of a category; with fewer, the cells of all categories count
CROWD_NOTE = "crowds (iscrowd) of a cell's size: cells"
SCORE_NOTE = 'annotations with a score: are these predictions?'
# What Label Studio puts before the name of an uploaded file.
UPLOAD_PREFIX = re.compile(r'[0-9a-f]{8}-')


def recognises(src: Path) -> bool:
    """Whether a file or folder looks like it."""
    return any(path.is_file() and b'"annotations"' in path.read_bytes() for _, path in _find_files(src))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of the files, and the class names.

    Raises:
        UserError: If a file is not a COCO file, has no classes, names a missing image or repeats an id, or if two files
            are the same split.
    """
    samples, found, categories, files, used = [], {}, [], {}, set()
    for split, path in _find_files(src):
        if split in found:
            raise UserError(
                f'{path}: {found[split].name} beside it is {split} too; name one of them train, val or test'
            )
        found[split] = path
        content = read_json(path, strict=True)
        is_labelled = split != 'test' or (isinstance(content, dict) and 'annotations' in content)
        for key in ('categories', 'images', *(['annotations'] if is_labelled else [])):
            if not isinstance(content, dict) or not isinstance(content.get(key), list):
                raise UserError(f'{path}: is not a COCO annotation file, it has no list of {key}')
        try:
            _check_ids(path, 'categories', content['categories'], 'name')
            _check_ids(path, 'images', content['images'], 'file_name')
            names = {entry['id']: str(entry['name']) for entry in sorted(content['categories'], key=_id)}
            annotations = defaultdict(list)
            for entry in content['annotations'] if is_labelled else []:
                if entry['category_id'] not in names:
                    where = f'annotation {entry.get("id")!r}'
                    listed = ', '.join(map(repr, names))
                    raise UserError(
                        f'{path}: {where}: category {entry["category_id"]!r}, which is not listed (ids: {listed})'
                    )
                marks = dict(category=names[entry['category_id']], ignore=_is_to_ignore(entry))
                annotations[entry['image_id']].append(dict(entry, **marks))
                used.add(names[entry['category_id']])
            known = {str(entry['name']) for entry in categories}
            categories += [entry for entry in sorted(content['categories'], key=_id) if str(entry['name']) not in known]
            for image in content['images']:
                entries = annotations.pop(image['id'], [])
                file, name = _find_image(path, image['file_name'])
                other = files.setdefault(file, image)
                if other is not image:
                    both = f'{other["file_name"]!r} and {image["file_name"]!r}'
                    raise UserError(f'{path}: images {both} are both {file}; one of them needs another name')
                size = int(image['height']), int(image['width'])
                source = (path, size, entries) if is_labelled else None
                group = name.partition('.rf.')[0] if '.rf.' in name else None
                samples.append(COCOSample(name, split, file, source, (), group=group))
        except KeyError as error:
            raise UserError(f'{path}: is not a COCO file of instances, an entry has no {error.args[0]!r}') from error
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f'{path}: is not a COCO annotation file ({error!r})') from error
        if annotations:
            raise UserError(f'{path}: annotations of image {next(iter(annotations))!r}, which is not listed')
    rules, limits = _find_rules(samples)
    classes = classes or tuple(name for name in _class_names(categories, used) if name not in rules.classes)
    samples = [replace(sample, classes=classes, rules=rules, crowd_limits=limits) for sample in samples]
    if not classes:
        raise UserError(f'{src}: no categories in its annotations')
    return samples, classes


def _class_names(categories: list, used: set) -> tuple:
    """The names of the categories, without unused ones that are the supercategory of another."""
    names = [str(entry['name']) for entry in categories]
    above = {str(entry.get('supercategory')) for entry in categories if entry.get('supercategory') != entry['name']}
    return tuple(name for name in names if name in used or name not in above)


def _id(entry: dict) -> int:
    return entry['id']


def _check_ids(path: Path, what: str, entries: list, key: str) -> None:
    """Raise :class:`UserError` if two entries have the same id; their names are under ``key``."""
    found = {}
    for entry in entries:
        other = found.setdefault(entry['id'], entry)
        if other is not entry:
            raise UserError(
                f'{path}: {what} {other[key]!r} and {entry[key]!r} have the same id {entry["id"]!r}; give each its own'
            )


def _find_files(src: Path) -> list:
    """(split, file) of all annotation files; without any outside, those in the folders of the splits."""
    if src.suffix.lower() == '.json':
        return [('train', src)]
    found = [(_split_of(path), path) for path in _visible_json(subfolder(src, 'annotations')) or _visible_json(src)]
    return found or [(split, path) for split, folder in split_folders(src) for path in _visible_json(folder)]


def _visible_json(folder: Path) -> list:
    return [path for path in visible(folder, '.json') if not path.name.lower().startswith(OTHER_TASKS)]


def _split_of(path: Path) -> str:
    words = re.findall('[a-z]+', path.stem.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), 'train')


def _find_image(path: Path, name: str) -> tuple:
    """The file of an image, and the name of its sample.

    Raises:
        UserError: If it is missing, or its name leads out of the folders and no file there has the name's end.
    """
    parts = PurePosixPath(name.replace('\\', '/')).parts
    leads_out = '..' in parts or parts[:1] == ('/',) or PureWindowsPath(name).drive or '\0' in name or '://' in name
    for kept in _possible_names(name, parts) if '\0' not in name else []:
        for folder in (path.parent, path.parent.parent):
            for place in (folder, folder / 'images'):
                for file in (place / kept, place / path.stem.removeprefix('instances_') / kept):
                    if file.is_file():
                        return file, '_'.join(PurePosixPath(kept).with_suffix('').parts)
    if leads_out:
        raise UserError(f'{path}: file_name {name!r} leads out of the folder; names below it are needed')
    raise UserError(f'{path}: no image {name!r} beside it or in images/')


def _possible_names(name: str, parts: tuple) -> list:
    """Relative paths that a file_name may mean, the most likely first, all within the folder."""
    decoded = PurePosixPath(unquote(name.rpartition('?d=')[2]).replace('\\', '/')).parts
    found = []
    for words in (parts, decoded):
        first = max((index + 1 for index, word in enumerate(words) if word in ('..', '/') or ':' in word), default=0)
        ends = [words[start:] for start in range(first, len(words))]
        found += ends
        found += [(*end[:-1], UPLOAD_PREFIX.sub('', end[-1], count=1)) for end in ends]
    names = ['/'.join(end) for end in found if end]
    # macOS writes an accented letter as two characters
    return list(dict.fromkeys(names + [unicodedata.normalize(form, name) for form in ('NFC', 'NFD') for name in names]))


def _read_runs(sample: 'COCOSample') -> Runs:
    """The pixels of the annotations of an image.

    Raises:
        UserError: If one has no segmentation, or one that is broken.
    """
    path, shape, entries = sample.source
    rings, owners, parts = [], [], []
    for index, entry in enumerate(entries):
        where = f'{path}: annotation {entry.get("id", index)!r}'
        segmentation = entry.get('segmentation')
        if segmentation == []:
            raise UserError(f'{where}: has a box but no outline; export it with polygons or masks')
        if isinstance(segmentation, dict):
            runs = read_code(segmentation, shape, where)
            parts.append(Runs(np.full(len(runs.start), index), runs.start, runs.length))
        elif isinstance(segmentation, list):
            polygons = [_to_polygon(polygon, where) for polygon in segmentation]
            rings += polygons
            owners += [index] * len(polygons)
        else:
            raise UserError(f'{where}: has no segmentation')
    parts.append(rasterize(rings, owners, [False] * len(rings), *shape))
    owner, start, length = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(owner, kind='stable')
    return Runs(owner[order], start[order], length[order])


def _is_to_ignore(entry: dict) -> bool:
    attributes = entry.get('attributes')
    places = (entry, attributes if isinstance(attributes, dict) else {})
    return any(str(place.get('ignore')).lower() in ('1', '1.0', 'true', 'yes') for place in places)


def _is_crowd(entry: dict) -> bool:
    return entry.get('iscrowd') in (1, '1') or entry['ignore']


def _survey(sample: 'COCOSample', runs: Runs) -> Contents:
    """What the annotations of an image enclose."""
    entries, height = sample.source[2], sample.source[1][0]
    is_crowd = [_is_crowd(entry) for entry in entries]
    # crowds and cells of a category are judged separately
    names = [entry['category'] + ('*' if crowd else '') for entry, crowd in zip(entries, is_crowd, strict=True)]
    return look_inside(runs, names, is_crowd, ['instance_id' not in entry for entry in entries], height)


def _find_rules(samples: list) -> tuple:
    """What a data set says about its regions, and the largest area of a crowd that is a cell, by category.

    If all annotations are crowds, their own median counts.
    """
    labelled = [sample for sample in samples if sample.source]
    surveys = [_survey(sample, _read_runs(sample)) for sample in labelled]
    rules = find_rules(surveys)
    rules = rules._replace(classes=frozenset(name for name in rules.classes if not name.endswith('*')))
    cells, crowds = defaultdict(list), []
    for sample, content in zip(labelled, surveys, strict=True):
        for entry, area, ignored in zip(sample.source[2], content.areas.tolist(), content.is_ignored, strict=True):
            if ignored and 'instance_id' not in entry and not entry['ignore']:
                crowds.append(area)
            elif not ignored and entry['category'] not in rules.classes:
                cells[entry['category']].append(area)
    every = [area for areas in cells.values() for area in areas]
    every = every if len(every) >= max(MIN_CELLS, len(crowds) / 10) else every + crowds
    limit = MAX_CROWD_RATIO * np.median(every) if every else 0
    own = {name: np.median(areas) for name, areas in cells.items() if len(areas) >= MIN_CELLS}
    limits = {name: MAX_CROWD_RATIO * area for name, area in own.items()}
    return rules, {None: limit, **limits}


@dataclass(frozen=True)
class COCOSample(Sample):
    """``source`` is the file, the size (H, W) that it states and the image's annotations.

    Attributes:
        rules: What the data set says about its regions.
        crowd_limits: Largest area in px of a crowd that is a cell, by category; for all others under None.
    """

    rules: RegionRules = NO_RULES
    crowd_limits: dict = field(default_factory=dict)

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the file's order."""
        path, size, entries = self.source
        if size != shape:
            raise UserError(f'{self.image}: {shape} px, but {size} in {path} (height, width)')
        runs = _read_runs(self)
        content = _survey(self, runs)
        is_cell = np.array(
            [self._is_cell(entry, area) for entry, area in zip(entries, content.areas, strict=True)], bool
        )
        is_cell &= content.is_ignored & (content.enclosed == 0)
        is_region = find_regions(content, self.rules) & ~is_cell
        notes = {CROWD_NOTE: int(is_cell.sum()), **region_notes(content, is_region)}
        notes[SCORE_NOTE] = sum('score' in entry for entry in entries)
        kept = np.flatnonzero(~is_region)
        labels = [class_number(entries[index]['category'], self.classes, str(path)) for index in kept]
        is_ignored = (content.is_ignored & ~is_cell)[kept].tolist()
        try:
            instances = lay_instances(runs.select(kept, len(entries)), labels, is_ignored, *shape)
        except UserError as error:
            raise UserError(f'{path}: image {self.image.name}: {error}') from error
        return replace(instances, notes=notes)

    def _is_cell(self, entry: dict, area: int) -> bool:
        """Whether a crowd is of a cell's size."""
        limit = self.crowd_limits.get(entry['category'], self.crowd_limits.get(None, 0))
        limit = min(limit, MAX_COVER * np.prod(self.source[1]))
        return 'instance_id' not in entry and not entry['ignore'] and 0 < area <= limit


def _to_polygon(polygon: object, where: str) -> np.ndarray:
    if not isinstance(polygon, list) or len(polygon) % 2:
        raise UserError(f'{where}: a polygon must be a list [x1, y1, x2, y2, ...]')
    return to_ring(list(zip(polygon[::2], polygon[1::2], strict=True)), where)


def read_code(code: dict, shape: tuple, where: str) -> Runs:
    """The runs of one run-length code, compressed or not.

    Args:
        code (dict): ``{'size': [H, W], 'counts': str or list[int]}``.
        shape (tuple): (H, W) of its image.
        where (str): For messages.

    Raises:
        UserError: If it is of another size or its counts do not add up to H * W; nothing is decoded before that.
    """
    counts = code.get('counts')
    if code.get('size') != list(shape):
        raise UserError(f'{where}: a mask of {code.get("size")} in an image of {list(shape)} (height, width)')
    if isinstance(counts, str):
        try:
            return decode_runs([dict(size=list(shape), counts=counts)])
        except ValueError as error:
            raise UserError(f'{where}: {error}') from error
    pixels = shape[0] * shape[1]
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count <= pixels for count in counts):
        raise UserError(f'{where}: counts must be a string or a list of whole numbers from 0 to {pixels}')
    if sum(counts) != pixels:
        raise UserError(f'{where}: runs over {sum(counts)} px in an image of {pixels}')
    return decode_runs([to_code(dict(size=list(shape), counts=counts), *shape)])
