"""COCO JSON: polygons, run-length codes compressed or not, and crowds.

::

    SRC.json, or SRC/*.json
    SRC/annotations/*.json                      # CVAT: instances_default.json, and images in images/default
    SRC/train/*.json, and valid/ and test/      # Roboflow: _annotations.coco.json beside the images

A file whose name has the word train, val or test is that split, or one in a folder that is named so; a single file is
train. COCO's own files of other tasks (``captions_*`` and the like) are passed over. Images are looked for by their
``file_name`` beside the file and in ``images/``, there and one folder up, and in a folder there that is named as the
file without ``instances_``. Classes are the categories in the order of their ids, the same in all files, but for one
without an annotation that is the supercategory of another: Roboflow writes such a root. Images that Roboflow made of
one (``NAME.rf.HASH.jpg``) stay on one side of the split. A file of test may have no annotations. A crowd (``iscrowd``)
is a region in which nothing of its class is scored. How polygons become pixels is said in :mod:`.outlines`; pycocotools
differs in a few pixels along slanted edges.

The layouts are read off ``site/content/en/docs/manual/advanced/formats/format-coco.md`` of cvat-ai/cvat, with
Datumaro's page on COCO that it names, and the page on dataset formats in the documentation of roboflow/rf-detr.
"""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from cellseg_mm.structures import Runs, decode_runs
from cellseg_mm.utils import UserError

from .outlines import lay_instances, rasterize, to_ring
from .sample import SPLIT_NAMES, Instances, Sample, class_number, load_json, split_folders, subfolder, visible

OTHER_TASKS = ('captions_', 'image_info_', 'labels_', 'panoptic_', 'person_keypoints_', 'stuff_')


def recognises(src: Path) -> bool:
    """Whether a file or folder looks like it."""
    return any(path.is_file() and b'"annotations"' in path.read_bytes() for _, path in _find_files(src))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of the files, and the class names.

    Raises:
        UserError: If a file is none of COCO, names no class or an image that is not there, gives an id twice, or two
            tell one split.
    """
    samples, found, categories, used = [], {}, [], set()
    for split, path in _find_files(src):
        if split in found:
            raise UserError(f'{path}: {found[split].name} beside it is {split} too; name one train, val or test')
        found[split] = path
        content = load_json(path)
        is_labelled = split != 'test' or (isinstance(content, dict) and 'annotations' in content)
        for key in ('categories', 'images', *(['annotations'] if is_labelled else [])):
            if not isinstance(content, dict) or not isinstance(content.get(key), list):
                raise UserError(f'{path}: is no annotation file of COCO, it has no list of {key}')
        try:
            _check_ids(path, 'categories', content['categories'], 'name')
            _check_ids(path, 'images', content['images'], 'file_name')
            names = {entry['id']: str(entry['name']) for entry in sorted(content['categories'], key=_id)}
            annotations = defaultdict(list)
            for entry in content['annotations'] if is_labelled else []:
                if entry['category_id'] not in names:
                    where = f'annotation {entry.get("id")!r}'
                    raise UserError(f'{path}: {where}: category {entry["category_id"]!r}, which is not listed')
                annotations[entry['image_id']].append(dict(entry, category=names[entry['category_id']]))
                used.add(names[entry['category_id']])
            categories = categories or sorted(content['categories'], key=_id)
            for image in content['images']:
                entries = annotations.pop(image['id'], [])
                file = _find_image(path, image['file_name'])
                name = '_'.join(PurePosixPath(image['file_name']).with_suffix('').parts)
                size = int(image['height']), int(image['width'])
                source = (path, size, entries) if is_labelled else None
                group = name.partition('.rf.')[0] if '.rf.' in name else None
                samples.append(COCOSample(name, split, file, source, (), group=group))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f'{path}: is no annotation file of COCO ({error!r})') from error
        if annotations:
            raise UserError(f'{path}: annotations of image {next(iter(annotations))!r}, which is not listed')
    classes = classes or _class_names(categories, used)
    if not classes:
        raise UserError(f'{src}: no categories in its annotations')
    return [replace(sample, classes=classes) for sample in samples], classes


def _class_names(categories: list, used: set) -> tuple:
    """The names of the categories but for those that no annotation has and that are the supercategory of another."""
    names = [str(entry['name']) for entry in categories]
    above = {str(entry.get('supercategory')) for entry in categories if entry.get('supercategory') != entry['name']}
    return tuple(name for name in names if name in used or name not in above)


def _id(entry: dict) -> int:
    return entry['id']


def _check_ids(path: Path, what: str, entries: list, key: str) -> None:
    """Raise :class:`UserError` if two entries have the same id; ``key`` is the one of their names."""
    found = {}
    for entry in entries:
        other = found.setdefault(entry['id'], entry)
        if other is not entry:
            raise UserError(
                f'{path}: {what} {other[key]!r} and {entry[key]!r} have the same id {entry["id"]!r}; give each its own'
            )


def _find_files(src: Path) -> list:
    """(split, file) of all annotation files; those of the splits' folders where there are none outside."""
    if src.suffix.lower() == '.json':
        return [('train', src)]
    found = [(_split_of(path), path) for path in _visible_json(subfolder(src, 'annotations')) or _visible_json(src)]
    return found or [(split, path) for split, folder in split_folders(src) for path in _visible_json(folder)]


def _visible_json(folder: Path) -> list:
    return [path for path in visible(folder, '.json') if not path.name.lower().startswith(OTHER_TASKS)]


def _split_of(path: Path) -> str:
    words = re.findall('[a-z]+', path.stem.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), 'train')


def _find_image(path: Path, name: str) -> Path:
    """The file of an image.

    Raises:
        UserError: If the name leads out of the folders, or there is none.
    """
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    if '..' in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or '\0' in name:
        raise UserError(f'{path}: file_name {name!r} leads out of the folder; names below it are needed')
    for folder in (path.parent, path.parent.parent):
        for place in (folder, folder / 'images'):
            for file in (place / name, place / path.stem.removeprefix('instances_') / name):
                if file.is_file():
                    return file
    raise UserError(f'{path}: no image {name!r} beside it or in images/')


class COCOSample(Sample):
    """``source`` is the file, the size (H, W) that it states and the image's annotations."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the file's order."""
        path, size, entries = self.source
        if size != shape:
            raise UserError(f'{self.image}: {shape} px, but {size} in {path} (height, width)')
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
        labels = [class_number(entry['category'], self.classes, str(path)) for entry in entries]
        is_ignored = [entry.get('iscrowd') == 1 for entry in entries]
        try:
            return lay_instances(Runs(owner[order], start[order], length[order]), labels, is_ignored, *shape)
        except UserError as error:
            raise UserError(f'{path}: image {self.image.name}: {error}') from error


def _to_polygon(polygon: object, where: str) -> np.ndarray:
    if not isinstance(polygon, list) or len(polygon) % 2:
        raise UserError(f'{where}: a polygon is a list of x and y in turn')
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
        raise UserError(f'{where}: counts are a text or a list of whole numbers from 0 to {pixels}')
    if sum(counts) != pixels:
        raise UserError(f'{where}: runs over {sum(counts)} px in an image of {pixels}')
    lengths = np.array(counts, np.int64)
    starts = np.cumsum(lengths) - lengths
    kept = np.flatnonzero((np.arange(len(lengths)) % 2 == 1) & (lengths > 0))
    return Runs(np.zeros(len(kept), np.int64), starts[kept], lengths[kept])
