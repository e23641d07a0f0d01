"""Lizard as distributed.

::

    SRC/Lizard_Images1/NAME.png, SRC/Lizard_Images2/NAME.png
    SRC/Lizard_Labels/Labels/NAME.mat, SRC/Lizard_Labels/info.csv     # or each in a folder with its zip's name

The MAT files are those of :mod:`.hovernet` with ``class`` and ``id``. ``info.csv`` gives each image one of three
splits: 3 is test, 1 and 2 are train. Without that file all images are train.

The layout is from ``cellseg_models_pytorch/datamodules/lizard_datamodule.py`` of okunator/cellseg_models.pytorch
and ``torch_em/data/datasets/histopathology/lizard.py`` of constantinpape/torch-em.
"""

from pathlib import Path

from cellseg_mm.utils import UserError, read_table

from .conic import CLASSES
from .hovernet import HoverNetSample
from .sample import IMAGE_SUFFIXES, by_stem, pair_labels, subfolder, visible, walk_folders

SPLITS = {'1': 'train', '2': 'train', '3': 'test'}
DEPTH = 2  # of the folders of a download


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    return bool(_named(src, 'lizard_images') and _find_labels(src))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images, and the class names, which are CoNIC's.

    Raises:
        UserError: See :func:`by_stem`, :func:`pair_labels` and :func:`read_table`; or if ``info.csv`` lacks an image or
            names another split.
    """
    classes = classes or CLASSES
    labels = _find_labels(src)
    if labels is None:
        raise UserError(f'{src}: no folder Lizard_Labels/Labels with .mat files in it')
    images = by_stem(path for folder in _named(src, 'lizard_images') for path in visible(folder, *IMAGE_SUFFIXES))
    info = next((path for path in visible(labels.parent, '.csv') if path.stem.lower() == 'info'), None)
    splits = {} if info is None else {row['filename']: row['split'] for row in read_table(info, 'filename', 'split')}
    samples = []
    for name, _, image, source in pair_labels(images, by_stem(visible(labels, '.mat')), 'train'):
        number = '1' if info is None else splits.get(name)
        if number not in SPLITS:
            raise UserError(f'{info}: split {number!r} of {name}; 1, 2 or 3 is needed')
        samples.append(HoverNetSample(name, SPLITS[number], image, source, classes))
    return samples, tuple(dict.fromkeys(classes))


def _named(src: Path, start: str) -> list:
    return [folder for folder in walk_folders(src, DEPTH) if folder.name.lower().startswith(start)]


def _find_labels(src: Path) -> Path | None:
    places = [subfolder(folder, 'Labels') for folder in _named(src, 'lizard_labels')]
    return next((place for place in places if visible(place, '.mat')), None)
