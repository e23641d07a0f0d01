"""MoNuSeg as distributed: images and XML of Aperio ImageScope without class names.

::

    SRC/MoNuSeg 2018 Training Data/Tissue Images/NAME.tif
    SRC/MoNuSeg 2018 Training Data/Annotations/NAME.xml
    SRC/MoNuSegTestData/NAME.tif, NAME.xml

Folders whose names contain train, val or test are these splits; without any, all of SRC is train. The XML is beside the
images, or in ``Annotations`` (or ``labels``) beside ``Tissue Images`` (or ``images``). It is read as in
:mod:`.monusac`, with one class. The training images of a patient, by their TCGA barcode, stay on one side of the split.

The layout is from ``torch_em/data/datasets/histopathology/monuseg.py`` of constantinpape/torch-em and
``cell_segmentation/datasets/prepare_monuseg.py`` of TIO-IKIM/CellViT.
"""

from pathlib import Path

from ..splits import patient_of
from .monusac import MonusacSample, is_without_classes
from .rasterize import with_rules
from .sample import (
    by_stem,
    images_by_stem,
    loose_split_folders,
    one_class,
    pair_labels,
    subfolders,
    visible,
    walk_folders,
)

IMAGES, LABELS = ('tissue images', 'tissue_images', 'images'), ('annotations', 'labels')
DEPTH = 1  # a zip is often unpacked into a folder of its own name


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    places = [place for _, folder in _split_folders(src) for place in walk_folders(folder, DEPTH + 1)]
    return is_without_classes([path for place in places for path in visible(place, '.xml')])


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images, and the name of the class.

    Raises:
        UserError: See :func:`by_stem`, :func:`pair_labels`, :func:`one_class` and :func:`.monusac.read_regions`.
    """
    classes = one_class(classes, 'XML in which no layer, attribute or region names a class')
    samples = []
    for split, folder in _split_folders(src):
        for images, labels in _places(split, folder):
            pairs = pair_labels(images, labels, split)
            samples += [MonusacSample(*pair, classes, group=patient_of(pair[0])) for pair in pairs]
    return with_rules(samples), classes


def _split_folders(src: Path) -> list:
    return loose_split_folders(src) or [('train', src)]


def _places(split: str, folder: Path) -> list:
    """Images and XML files by name, for each folder that has both in one of the two ways; for test also without XML."""
    pairs = {}  # the folder of the images by that of the XML files
    for place in walk_folders(folder, DEPTH):
        inner = {path.name.lower(): path for path in subfolders(place)}
        images, labels = (next((inner[name] for name in names if name in inner), None) for names in (IMAGES, LABELS))
        if images and labels:
            pairs[labels] = images
        elif place not in pairs.values():
            pairs.setdefault(place, place)
    places = [(images_by_stem(images), by_stem(visible(labels, '.xml'))) for labels, images in pairs.items()]
    return [(images, labels) for images, labels in places if labels or split == 'test']
