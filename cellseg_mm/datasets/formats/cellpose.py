"""The layout of Cellpose: beside each image an id map of its cells, which are of one class.

::

    SRC/NAME.tif or NAME_img.tif, NAME_masks.tif      # or .png; also in SRC/train, SRC/val and SRC/test

A map has one channel of whole numbers, of any dtype: 0 is background. Images of ``test`` may come without a map.
"""

from pathlib import Path

import numpy as np

from cellseg_mm.structures import relabel
from cellseg_mm.utils import UserError

from .sample import Instances, Sample, images_by_stem, pair_labels, read_mask, split_folders

ENDING = '_masks'


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    return any(any(folder.glob(f'*{ENDING}.*')) for _, folder in split_folders(src))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of a source folder, and the name of the class.

    Raises:
        UserError: See :func:`pair_labels`; and for more than one class.
    """
    classes = classes or ('cell',)
    if len(classes) != 1:
        raise UserError(f'--classes {" ".join(classes)}: {ENDING} maps tell no classes; name one')
    samples = []
    for split, folder in split_folders(src):
        files = images_by_stem(folder)
        labels = {stem.removesuffix(ENDING): path for stem, path in files.items() if stem.endswith(ENDING)}
        images = {stem.removesuffix('_img'): path for stem, path in files.items() if not stem.endswith(ENDING)}
        pairs = pair_labels(images, labels, split)
        samples += [CellposeSample(name, split, image, source, classes) for name, image, source in pairs]
    return samples, classes


class CellposeSample(Sample):
    """``source`` is the id map's file."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the order of their ids."""
        id_map, count = relabel(read_mask(self.source, shape))
        return Instances(id_map[None], np.ones(count, np.int64), np.zeros(count, bool))
