"""PanNuke as distributed: a few large arrays for each fold.

::

    SRC/Fold 1/images/fold1/images.npy, SRC/Fold 1/masks/fold1/masks.npy     # and Fold 2, Fold 3
    SRC/fold1/images.npy, SRC/fold1/masks.npy                                # or any folders with the fold's number

``images.npy`` is (N, 256, 256, 3) of 0 to 255, as float64. ``masks.npy`` is (N, 256, 256, 6): five channels of ids, one
for each class, and the background, which is not read. A fold takes up to 8 GB, so both are memory mapped. Each channel
has its own ids.

The last of three folds is the test split: fold 3, or fold 2 if they count from 0. The others are train. Folders
``SRC/train``, ``SRC/val`` and ``SRC/test`` give other splits.

The layout is from ``cell_segmentation/datasets/prepare_pannuke.py`` of TIO-IKIM/CellViT and
``cellseg_models_pytorch/datamodules/pannuke_datamodule.py`` of okunator/cellseg_models.pytorch.
"""

import re
from pathlib import Path

import numpy as np

from cellseg_mm.utils import UserError

from .arrays import ArraySample, count_images, open_array
from .sample import Instances, check_ids, lay_maps, split_folders, visible, walk_folders

CLASSES = ('neoplastic', 'inflammatory', 'connective', 'dead', 'epithelial')
CHANNELS = len(CLASSES) + 1
DEPTH = 3  # of the folders of a download


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    return any(_find_arrays(folder, 'masks') for _, folder in split_folders(src))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of the folds, and the class names.

    Raises:
        UserError: See :func:`count_images`; or if a file of a fold is missing or occurs twice, or the number of classes
            is wrong.
    """
    classes = classes or CLASSES
    if len(classes) != len(CLASSES):
        raise UserError(f'--classes {" ".join(classes)}: PanNuke has {len(CLASSES)} classes, {", ".join(CLASSES)}')
    samples = []
    for split, folder in split_folders(src):
        images, masks = (_find_arrays(folder, kind) for kind in ('images', 'masks'))
        numbers = sorted({*images, *masks}, key=str)
        third = 2 if 0 in numbers else 3
        for number in numbers:
            own = 'test' if folder == src and number == third and len(numbers) > 1 else split
            path, labels = images.get(number), masks.get(number)
            if path is None:
                raise UserError(f'{labels}: no images.npy for it')
            if labels is None and own != 'test':
                raise UserError(f'{path}: no masks.npy for it; only images of test may come without')
            fold = split if number is None else f'fold{number}'
            for index in range(count_images(path, labels, CHANNELS)):
                samples.append(PanNukeSample(f'{fold}_{index:04d}', own, path, labels, classes, index=index))
    return samples, classes


def _find_arrays(folder: Path, kind: str) -> dict:
    """The files ``KIND.npy`` by the number of their fold, or None without a number.

    Raises:
        UserError: If a fold has two files.
    """
    found = {}
    for place in walk_folders(folder, DEPTH):
        for path in visible(place, '.npy'):
            if path.stem.lower() == kind:
                numbers = re.findall(r'(?:fold|part)[ _-]*(\d+)', str(place.relative_to(folder)).lower())
                other = found.setdefault(int(numbers[-1]) if numbers else None, path)
                if other is not path:
                    raise UserError(f'{path}: {other} is of the same fold; name the folders fold1, fold2 and fold3')
    return found


class PanNukeSample(ArraySample):
    """An image of a fold."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the order of the classes and of their ids."""
        masks = open_array(self.source, CHANNELS)[self.index]
        where, background = f'{self.source}: image {self.index}', np.unique(masks[..., -1])
        if len(background[background != 0]) > 1:
            raise UserError(
                f'{where}: the last channel holds {len(background)} values, but it is the background; the order of the '
                f'channels is {", ".join(CLASSES)}, background'
            )
        maps = [check_ids(masks[..., place], shape, where, are_ids=False) for place in range(CHANNELS - 1)]
        layers, counts = lay_maps(maps, shape)
        labels = np.repeat(np.arange(1, CHANNELS), counts)
        return Instances(layers, labels, np.zeros(len(labels), bool))
