"""TNBC (Naylor et al.) as distributed: a folder for each slide, with a folder of masks beside it.

::

    SRC/Slide_01/01_1.png, SRC/GT_01/01_1.png     # also in SRC/train, SRC/val and SRC/test

A mask separates nuclei from the background: each piece that is connected, by a side or a corner, is a nucleus. A mask
of several values is an id map. There is one class. The images of a slide, which is a patient, stay on one side of the
split. Images of ``test`` may come without masks.

The layout is from ``torch_em/data/datasets/histopathology/tnbc.py`` of constantinpape/torch-em.
"""

import re
from pathlib import Path

import cv2
import numpy as np

from cellseg_mm.structures import instance_extents, relabel
from cellseg_mm.utils import UserError

from .sample import (
    Instances,
    Sample,
    find_pairs,
    images_by_stem,
    one_class,
    read_mask,
    split_folders,
    subfolder,
    walk_folders,
)

DEPTH = 2  # of the slides below SRC
# The largest share of the ids of a map that lie in several places. With more, the values are types or the like.
MAX_SPLIT = 0.25


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    return any(images_by_stem(masks) for _, folder in split_folders(src) for _, masks in _slides(folder))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images, and the name of the class.

    Raises:
        UserError: See :func:`by_stem`, :func:`pair_labels` and :func:`one_class`.
    """
    classes = one_class(classes, 'TNBC')
    pairs = find_pairs(src, lambda folder: [map(images_by_stem, places) for places in _slides(folder)])
    # the folder of an image is its slide
    return [TNBCSample(*pair, classes, group=pair[2].parent.name) for pair in pairs], classes


def _slides(folder: Path) -> list:
    """The folders of images and of masks of each slide."""
    slides = [place for place in walk_folders(folder, DEPTH) if re.match(r'slide_\d', place.name.lower())]
    return [(slide, subfolder(slide.parent, f'GT{slide.name[5:]}')) for slide in slides]


class TNBCSample(Sample):
    """``source`` is the mask's file."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`."""
        id_map, count = relabel(read_mask(self.source, shape, are_ids=False))
        if count == 1:
            pieces, id_map = cv2.connectedComponents((id_map > 0).astype(np.uint8), connectivity=8)
            count = pieces - 1
        elif (split := _count_split(id_map, count)) > MAX_SPLIT * count:
            raise UserError(
                f'{self.source}: {split} of its {count} values lie in several places; a mask of nuclei and background, '
                'or an id map, is needed'
            )
        return Instances.of_one_class(id_map, count)


def _count_split(id_map: np.ndarray, count: int) -> int:
    """How many of the ids 1..N lie in several places."""
    boxes, _ = instance_extents(id_map, np.arange(1, count + 1))
    crops = (id_map[y1:y2, x1:x2] == number for number, (x1, y1, x2, y2) in enumerate(boxes, start=1))
    return sum(cv2.connectedComponents(crop.astype(np.uint8), connectivity=8)[0] > 2 for crop in crops)
