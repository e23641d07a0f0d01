"""The course task's layout: a folder for each image, with ``image.tif`` and a mask ``classN.tif`` for each class.

::

    SRC/train/NAME/{image.tif,class1.tif,class2.tif,...}
    SRC/test/NAME/...                       # labelled test images in the same form, if there are any
    SRC/test_release/NAME.tif               # otherwise: test images without labels
    SRC/test_image_name_to_ids.json         # their ids for a submission

Names may be in any case; splits are those of :data:`SPLIT_NAMES`. Images are 8-bit RGB or RGBA. Masks have one channel
of whole numbers of any dtype (float64 in the real files): 0 is background, each other number an instance of the class.
Several classes with one name in ``--classes`` become one.
"""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from cellseg_mm.utils import UserError, read_json

from .sample import (
    IMAGE_SUFFIXES,
    Instances,
    Sample,
    check_size,
    images_by_stem,
    lay_maps,
    read_mask,
    split_folders,
    subfolders,
    visible,
)

SUFFIXES = ('.tif', '.tiff', '.png')
CLASSES = ('epithelial', 'lymphocyte', 'neutrophil', 'macrophage')


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    folders = (folder for _, parent in _split_folders(src) for folder in subfolders(parent))
    return any(_is_own(path) for folder in folders for path in visible(folder, *IMAGE_SUFFIXES))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of a source folder, train before test, by name; and the class names.

    Raises:
        UserError: If the layout differs from the one above, a class file has a number above the classes, or an image
            is named class* but not as a mask.
    """
    classes = classes or CLASSES
    splits = _split_folders(src)
    if 'train' not in dict(splits):
        raise UserError(f'{src}: no folder train/ in it; expected train/NAME/image.tif and classN.tif beside it')
    ids = _read_ids(src / 'test_image_name_to_ids.json')
    samples = [_find_sample(folder, split, classes) for split, parent in splits for folder in subfolders(parent)]
    test = [sample for sample in samples if sample.split == 'test']
    if not test:
        images = images_by_stem(src / 'test_release')
        test = [TaskSample(name, 'test', path, None, classes) for name, path in images.items()]
    test = [replace(sample, image_id=ids.get(sample.name)) for sample in test]
    return [sample for sample in samples if sample.split != 'test'] + test, tuple(dict.fromkeys(classes))


def _split_folders(src: Path) -> list:
    """As :func:`split_folders`, but empty without such folders."""
    return [entry for entry in split_folders(src) if entry[1] != src]


def _is_own(path: Path) -> bool:
    return re.fullmatch(r'image|class\d+', path.stem.lower()) is not None


def _read_ids(path: Path) -> dict:
    """Image ids by file stem; empty without the file."""
    if not path.exists():
        return {}
    try:
        return {Path(entry['file_name']).stem: int(entry['id']) for entry in read_json(path, strict=True)}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f'{path}: not a list of {{"file_name", "id", ...}} ({error!r})') from error


def _find_sample(folder: Path, split: str, classes: tuple) -> 'TaskSample':
    images = [path for path in visible(folder, *SUFFIXES) if path.stem.lower() == 'image']
    if not images:
        raise UserError(f'{folder}: no image.tif in it')
    masks = {}
    for path in visible(folder, *IMAGE_SUFFIXES):
        name = path.name.lower()
        if not name.startswith('class'):
            continue
        match = re.fullmatch(r'class(\d+)\.(tif|tiff|png)', name)
        if not match:
            raise UserError(f'{path}: masks are named classN.tif, .tiff or .png, N a number; rename it or move it away')
        number = int(match[1])
        if not 1 <= number <= len(classes):
            raise UserError(f'{path}: class {number}, but {len(classes)} class names are given; see --classes')
        if number in masks:
            raise UserError(f'{path}: {masks[number].name} beside it is the same class; keep one of them')
        masks[number] = path
    image = min(images, key=lambda path: SUFFIXES.index(path.suffix.lower()))
    return TaskSample(folder.name, split, image, masks, classes)


def read_image(path: Path) -> np.ndarray:
    """The image as stored, (H, W, 3) uint8, channels in the file's order, alpha dropped.

    Raises:
        UserError: If it cannot be read, or is not 8-bit with 3 or 4 channels.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UserError(f'{path}: not readable as an image (truncated, or not an image file?)')
    if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype != np.uint8:
        channels = 1 if image.ndim == 2 else image.shape[2]
        raise UserError(f'{path}: 8-bit RGB or RGBA needed, found {channels} channels of {image.dtype}')
    check_size(path, *image.shape[:2])
    # OpenCV returns the file's first channel as the third
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGB)


class TaskSample(Sample):
    """``source`` holds the mask files by class number; ``classes`` has a name for each, and names may repeat."""

    def read_image(self) -> tuple:
        """See :meth:`Sample.read_image` and :func:`read_image`."""
        return read_image(self.image), '', None

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the order of the classes."""
        numbers = sorted(self.source)
        layers, counts = lay_maps([read_mask(self.source[number], shape) for number in numbers], shape)
        merged = list(dict.fromkeys(self.classes))
        labels = np.repeat([merged.index(self.classes[number - 1]) + 1 for number in numbers], counts).astype(np.int64)
        return Instances(layers, labels, np.zeros(len(labels), bool))
