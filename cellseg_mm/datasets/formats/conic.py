"""CoNIC as distributed: two arrays of all patches.

::

    SRC/images.npy, SRC/labels.npy, SRC/patch_info.csv     # also in SRC/train, SRC/val and SRC/test

``images.npy`` is (N, 256, 256, 3) uint8; ``labels.npy`` (N, 256, 256, 2) holds an id map and a map of classes from
1. A row of ``patch_info.csv`` names a patch: ``consep_1-0003`` was cut from the image ``consep_1``, and the patches of
an image stay on one side of the split. Without that file each patch is its own group. Both arrays are memory mapped.
Patches of ``test`` may come without labels.

The layout is from ``extract_patches.py`` of TissueImageAnalytics/CoNIC, which writes it.
"""

import re
from pathlib import Path

import numpy as np

from cellseg_mm.structures import relabel
from cellseg_mm.utils import UserError, read_table

from .arrays import ArraySample, count_images, open_array
from .hovernet import check_type_map, types_by_vote
from .sample import Instances, check_ids, split_folders, visible

CLASSES = ('neutrophil', 'epithelial', 'lymphocyte', 'plasma', 'eosinophil', 'connective')


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    return any(all(_find(folder, name) for name in ('images.npy', 'labels.npy')) for _, folder in split_folders(src))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All patches, and the class names.

    Raises:
        UserError: See :func:`count_images`; or if labels are missing, or names and patches differ in number.
    """
    classes = classes or CLASSES
    samples = []
    for split, folder in split_folders(src):
        images, labels = _find(folder, 'images.npy'), _find(folder, 'labels.npy')
        if images is None:
            raise UserError(f'{folder}: no images.npy in it')
        if labels is None and split != 'test':
            raise UserError(f'{images}: no labels.npy beside it; only images of test may come without')
        count = count_images(images, labels, 2)
        info = _find(folder, 'patch_info.csv')
        names = [f'{split}_{index:04d}' for index in range(count)]
        if info is not None:
            names = [row['patch_info'] for row in read_table(info, 'patch_info')]
        if len(names) != count:
            raise UserError(f'{info}: names {len(names)} patches, but {images.name} has {count}')
        for index, name in enumerate(names):
            if not re.fullmatch(r'[^/\\:\0]+', name):
                raise UserError(f'{info}: patch {index}: {name!r} cannot be a file name')
            group = name.rpartition('-')[0] or None
            samples.append(CoNICSample(name, split, images, labels, classes, group=group, index=index))
    return samples, classes


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in visible(folder) if path.name.lower() == name), None)


class CoNICSample(ArraySample):
    """A patch."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the order of their ids."""
        labels, where = open_array(self.source, 2)[self.index], f'{self.source}: image {self.index}'
        id_map, count = relabel(check_ids(labels[..., 0], shape, where, are_ids=False))
        num_types = len(self.classes)
        types = types_by_vote(id_map, check_type_map(labels[..., 1], shape, num_types, where), count, num_types)
        if not types.all():
            raise UserError(f'{where}: {(types == 0).sum()} of {count} instances have no class in its map of classes')
        return Instances(id_map[None], types, np.zeros(count, bool))
