"""MoNuSeg as distributed: images and the XML of Aperio ImageScope, in which nothing names a class.

::

    SRC/MoNuSeg 2018 Training Data/Tissue Images/NAME.tif
    SRC/MoNuSeg 2018 Training Data/Annotations/NAME.xml
    SRC/MoNuSegTestData/NAME.tif, NAME.xml

Folders whose names hold train, val or test are these splits; without any, all of SRC is for training. In them the XML
lies beside the images, or in ``Annotations`` (or ``labels``) beside ``Tissue Images`` (or ``images``). There is one
class. The training images of a patient, which their TCGA barcode tells, stay on one side of the split.

The layout is read off ``torch_em/data/datasets/histopathology/monuseg.py`` of constantinpape/torch-em and
``cell_segmentation/datasets/prepare_monuseg.py`` of TIO-IKIM/CellViT.
"""

from pathlib import Path

from cellseg_mm.utils import UserError

from ..splits import patient_of
from .monusac import is_without_classes, layer_names, parse_xml
from .outlines import instances_from_outlines, to_ring
from .sample import (
    Instances,
    Sample,
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
        UserError: See :func:`by_stem`, :func:`pair_labels` and :func:`one_class`.
    """
    classes = one_class(classes, 'MoNuSeg')
    samples = []
    for split, folder in _split_folders(src):
        for images, labels in _places(split, folder):
            samples += [
                MoNuSegSample(name, split, image, source, classes, group=patient_of(name))
                for name, image, source in pair_labels(images, labels, split)
            ]
    return samples, classes


def _split_folders(src: Path) -> list:
    return loose_split_folders(src) or [('train', src)]


def _places(split: str, folder: Path) -> list:
    """Images and XML files by name, of each folder that has both in one of the two ways; of test without XML, too."""
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


class MoNuSegSample(Sample):
    """``source`` is the XML file."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the file's order."""
        cells = []
        root = parse_xml(self.source)
        if root.find('Annotation/Regions') is None:
            raise UserError(f'{self.source}: has no Annotation with Regions, as ImageScope writes them')
        for layer in root.iter('Annotation'):
            names = layer_names(layer)
            if names:
                raise UserError(
                    f'{self.source}: names a class, {names[0]!r}; MoNuSeg has none, say --format monusac and --classes'
                )
            for index, region in enumerate(layer.findall('Regions/Region'), start=1):
                where = f'{self.source}: region {index}'
                if region.get('NegativeROA') == '1':
                    raise UserError(f'{where}: is a hole (NegativeROA), which nuclei of MoNuSeg do not have')
                points = [(vertex.get('X'), vertex.get('Y')) for vertex in region.iter('Vertex')]
                cells.append((1, False, [(to_ring(points, where), False)]))
        return instances_from_outlines(cells, *shape, str(self.source))
