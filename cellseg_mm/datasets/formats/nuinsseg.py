"""NuInsSeg as distributed: a folder for each organ.

::

    SRC/human bladder/tissue images/NAME.png
    SRC/human bladder/label masks modify/NAME.tif     # an id map
    SRC/human bladder/vague areas/mask binary/NAME.png
    ...                                               # also in SRC/train, SRC/val and SRC/test

``label masks modify`` is read if present, otherwise ``label masks``, in which an overlap of two nuclei holds the sum of
their ids. Vague areas outside nuclei are ignored regions. There is one class. Other folders are not read. Images of
``test`` may come without labels.

The layout is from ``torch_em/data/datasets/histopathology/nuinsseg.py`` of constantinpape/torch-em, and the masks'
meaning from ``code/manual_masks_generator/masks_generator.m`` of masih4/NuInsSeg, which writes them.
"""

from pathlib import Path

import numpy as np

from cellseg_mm.structures import relabel

from .sample import (
    IMAGE_SUFFIXES,
    Instances,
    Sample,
    images_by_stem,
    one_class,
    pair_labels,
    read_mask,
    split_folders,
    subfolder,
    visible,
    walk_folders,
)

IMAGES, LABELS, VAGUE = 'tissue images', ('label masks modify', 'label masks'), ('mask binary', 'mask binary_vague')
DEPTH = 2  # of the organs below SRC


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    return any(_find_labels(organ) for _, folder in split_folders(src) for organ in _organs(folder))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of all organs, and the name of the class.

    Raises:
        UserError: See :func:`by_stem`, :func:`pair_labels` and :func:`one_class`.
    """
    classes = one_class(classes, 'NuInsSeg')
    samples = []
    for split, folder in split_folders(src):
        for organ in _organs(folder):
            vague = _first(subfolder(organ, 'vague areas'), VAGUE)
            pairs = pair_labels(images_by_stem(subfolder(organ, IMAGES)), _find_labels(organ), split)
            samples += [NuInsSegSample(*place, mask and (mask, vague.get(place[0])), classes) for *place, mask in pairs]
    return samples, classes


def _organs(folder: Path) -> list:
    return [place for place in walk_folders(folder, DEPTH) if visible(subfolder(place, IMAGES), *IMAGE_SUFFIXES)]


def _find_labels(organ: Path) -> dict:
    return _first(organ, LABELS)


def _first(folder: Path, names: tuple) -> dict:
    """The image files, by stem, of the first folder that has any."""
    return next(filter(None, (images_by_stem(subfolder(folder, name)) for name in names)), {})


class NuInsSegSample(Sample):
    """``source`` holds the file of the id map, and the file of the vague areas or None."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the order of their ids, the ignored region last."""
        mask, vague = self.source
        id_map, count = relabel(read_mask(mask, shape))
        labels = np.ones(count, np.int64)
        if vague is not None:
            region = (read_mask(vague, shape, are_ids=False) > 0) & (id_map == 0)
            if region.any():
                id_map[region] = count + 1
                labels = np.append(labels, 0)
        return Instances(id_map[None], labels, labels == 0)
