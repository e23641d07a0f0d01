"""Data Science Bowl 2018 (BBBC038) as distributed: a folder for each image, with a file for each nucleus.

::

    SRC/stage1_train/ID/images/ID.png, SRC/stage1_train/ID/masks/*.png
    SRC/stage1_test/ID/images/ID.png                                     # which come without masks

Folders whose names contain train, val or test are these splits; without any, SRC holds the folders of the images. A
mask has the values 0 and one other. There is one class.

The layout is from ``bioimageloader/collections/_dsb2018.py`` of LaboratoryOpticsBiosciences/bioimageloader.
"""

from pathlib import Path

import numpy as np

from cellseg_mm.structures import Runs, find_runs
from cellseg_mm.utils import UserError

from .rasterize import lay_instances
from .sample import (
    IMAGE_SUFFIXES,
    SPLIT_NAMES,
    Instances,
    Sample,
    loose_split_folders,
    one_class,
    read_mask,
    subfolder,
    subfolders,
    visible,
)


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    places = (place for _, folder in _split_folders(src) for place in subfolders(folder))
    return any(
        len(_files(place, 'images')) == 1 and _files(place, 'masks')
        for place in places
        if place.name.lower() not in SPLIT_NAMES  # as in Cellpose's and StarDist's layouts
    )


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images, and the name of the class.

    Raises:
        UserError: If a folder does not have one image, or has no masks, which only images of test may lack; see also
            :func:`one_class`.
    """
    classes = one_class(classes, 'DSB 2018')
    samples = []
    for split, folder in _split_folders(src):
        for place in subfolders(folder):
            images, masks = _files(place, 'images'), _files(place, 'masks')
            if len(images) != 1:
                raise UserError(f'{place}: {len(images)} images in images/; a folder of DSB 2018 has one')
            if not masks and split != 'test':
                raise UserError(f'{place}: no masks/ in it; only images of test may come without')
            samples.append(DSBSample(place.name, split, images[0], masks or None, classes))
    return samples, classes


def _split_folders(src: Path) -> list:
    found = [
        entry for entry in loose_split_folders(src) if not _files(entry[1], 'images')
    ]  # the folder of an image has them
    return found or [('train', src)]


def _files(place: Path, name: str) -> list:
    return visible(subfolder(place, name), *IMAGE_SUFFIXES)


class DSBSample(Sample):
    """``source`` is the list of the masks' files."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the order of the files' names."""
        count = len(self.source)
        runs = Runs.concatenate([find_runs(self._read_mask(path, shape)) for path in self.source], [1] * count)
        try:
            return lay_instances(runs, [1] * count, [False] * count, *shape)
        except UserError as error:
            raise UserError(f'{self.image}: its masks: {error}') from error

    @staticmethod
    def _read_mask(path: Path, shape: tuple) -> np.ndarray:
        mask = read_mask(path, shape, are_ids=False)
        inside = mask > 0
        if inside.any() and mask[inside].min() != mask.max():
            raise UserError(f'{path}: has several values; a mask of DSB 2018 is one nucleus, 0 and one other value')
        return inside
