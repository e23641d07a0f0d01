"""The layouts of Cellpose and StarDist: to each image an id map of its cells, which are of one class.

::

    SRC/NAME.tif or NAME_img.tif, NAME_masks.tif      # or .png; also in SRC/train, SRC/val and SRC/test
    SRC/images/NAME.tif, SRC/masks/NAME.tif           # likewise

A map has one channel of whole numbers, of any dtype: 0 is background. Images of ``test`` may come without a map.
"""

from pathlib import Path

import cv2
import numpy as np

from cellseg_mm.structures import relabel
from cellseg_mm.utils import UserError

from .sample import (
    IMAGE_SUFFIXES,
    Instances,
    Sample,
    by_stem,
    images_by_stem,
    one_class,
    pair_labels,
    read_mask,
    split_folders,
    subfolder,
    visible,
)

ENDING = '_masks'
FOLDERS = ('images', 'masks')
# Of the only cell of a map; more are the cells of a map that tells them from the background alone.
MAX_PARTS = 4


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    return any(_maps_beside(folder) or _has_folders(folder) for _, folder in split_folders(src))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of a source folder, and the name of the class.

    Raises:
        UserError: See :func:`by_stem`, :func:`pair_labels` and :func:`one_class`.
    """
    classes = one_class(classes, 'a map of ids')
    splits = split_folders(src)
    has_folders = any(_has_folders(folder) for _, folder in splits)
    samples = []
    for split, folder in splits:
        images = by_stem((path for path in images_by_stem(folder).values() if not _is_map(path)), '_img')
        pairs = pair_labels(images, by_stem(_maps_beside(folder), ENDING), split)
        if has_folders:
            pairs += pair_labels(*(images_by_stem(subfolder(folder, name)) for name in FOLDERS), split)
        samples += [CellposeSample(name, split, image, source, classes) for name, image, source in pairs]
    return samples, classes


def _is_map(path: Path) -> bool:
    return path.stem.lower().endswith(ENDING)


def _maps_beside(folder: Path) -> list:
    return [path for path in visible(folder, *IMAGE_SUFFIXES) if _is_map(path)]


def _has_folders(folder: Path) -> bool:
    return all(visible(subfolder(folder, name), *IMAGE_SUFFIXES) for name in FOLDERS)


class CellposeSample(Sample):
    """``source`` is the id map's file."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the order of their ids."""
        id_map, count = relabel(read_mask(self.source, shape))
        if count == 1:
            parts = cv2.connectedComponents(id_map.astype(np.uint8))[0] - 1
            if parts > MAX_PARTS:
                raise UserError(f'{self.source}: one id in {parts} separate places; each cell needs an id of its own')
        return Instances(id_map[None], np.ones(count, np.int64), np.zeros(count, bool))
