"""MoNuSAC as distributed: images with the XML of Aperio ImageScope beside them.

::

    SRC/train/SLIDE/SLIDE_1.svs or .tif, SLIDE_1.xml     # one folder a slide, several images in each
    SRC/test/SLIDE/...

``train`` and ``test`` are the two downloads, renamed. In the XML each ``Annotation`` is a class, named by its
``Attribute``, and each ``Region`` a polygon of ``Vertex`` elements in px from the image's upper left corner on. Regions
of the class ``Ambiguous``, which the test images have, are ignored in scoring, whatever the class of a prediction.
The training images of a patient stay on one side of the split.
"""

from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from cellseg_mm.utils import UserError

from ..splits import patient_of
from .outlines import instances_from_outlines, to_ring
from .sample import (
    Instances,
    Sample,
    by_stem,
    class_number,
    images_by_stem,
    pair_labels,
    split_folders,
    subfolders,
    visible,
)
from .task import CLASSES

IGNORED_CLASS = 'ambiguous'


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    places = [place for _, folder in split_folders(src) for place in [folder, *subfolders(folder)]]
    files = [path for place in places for path in visible(place, '.xml')]
    return bool(files) and not is_without_classes(files)


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of a source folder, and the class names.

    Raises:
        UserError: See :func:`by_stem` and :func:`pair_labels`.
    """
    samples = []
    for split, folder in split_folders(src):
        for place in [folder, *subfolders(folder)]:
            for name, image, source in pair_labels(images_by_stem(place), by_stem(visible(place, '.xml')), split):
                group = patient_of(name if place == folder else place.name)
                samples.append(MonusacSample(name, split, image, source, classes or CLASSES, group=group))
    return samples, classes or CLASSES


def parse_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file without a document type.

    Entities can only be declared in a document type, and ImageScope writes none: without one nothing can be expanded or
    fetched, and no further package is needed for it.

    Raises:
        UserError: If it is broken or has a document type.
    """
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end

    def refuse(*_: object) -> None:
        raise UserError(f'{path}: has a document type (DTD), which no file of ImageScope has')

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise UserError(f'{path}: is no whole XML ({error})') from error


def is_without_classes(files: list) -> bool:
    """Whether the first of some files that has a region names no class at all, as those of MoNuSeg do.

    Raises:
        UserError: See :func:`parse_xml`.
    """
    for path in files:
        layers = [layer for layer in parse_xml(path).iter('Annotation') if layer.find('Regions/Region') is not None]
        if layers:
            return not any(map(layer_names, layers))
    return False


def layer_names(layer: ElementTree.Element) -> list:
    """The names that a layer (``Annotation``) and its attributes have, but for ImageScope's own ``Description``."""
    names = [element.get('Name', '').strip() for element in (layer, *layer.findall('Attributes/Attribute'))]
    return [name for name in names if name not in ('', 'Description')]


class MonusacSample(Sample):
    """``source`` is the XML file."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the file's order."""
        cells = []
        for annotation in parse_xml(self.source).iter('Annotation'):
            regions = annotation.findall('Regions/Region')
            if not regions:
                continue
            attribute = annotation.find('Attributes/Attribute')
            name = (annotation if attribute is None else attribute).get('Name', '').strip()
            is_ignored = name.casefold() == IGNORED_CLASS
            number = 0 if is_ignored else class_number(name, self.classes, str(self.source))
            for index, region in enumerate(regions, start=1):
                where = f'{self.source}: {name} region {index}'
                if region.get('NegativeROA') == '1':
                    raise UserError(f'{where}: is a hole (NegativeROA), which cells of MoNuSAC have not')
                points = [(vertex.get('X'), vertex.get('Y')) for vertex in region.iter('Vertex')]
                cells.append((number, is_ignored, [(to_ring(points, where), False)]))
        return instances_from_outlines(cells, *shape, str(self.source))
