"""MoNuSAC as distributed: images with the XML of Aperio ImageScope beside them.

::

    SRC/train/SLIDE/SLIDE_1.svs or .tif, SLIDE_1.xml     # a folder for each slide, with several images
    SRC/test/SLIDE/...

``train`` and ``test`` are the two downloads, renamed. In the XML each ``Annotation`` is a layer, and each ``Region`` in
it has ``Vertex`` elements in px from the image's upper left corner. The class is the name or the value of an
``Attribute`` of the layer (MoNuSAC), the layer's ``Name``, or the ``Text`` of a region, if it is one of the classes;
two different classes are an error. In a file without any of these, all cells have the class if there is only one.
Regions of the class ``Ambiguous``, as in the test images, are ignored in scoring, whatever the class of a prediction.
Regions that enclose cells are not cells, see :mod:`.regions`. Region types are ImageScope's: 0 a polygon, 1 a
rectangle, 2 an ellipse (both may be given by two corners); arrows and rulers are refused. ``MicronsPerPixel`` of the
root is the pixel size if the image does not state it.

The training images of a patient stay on one side of the split.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from cellseg_mm.images import checked_pixel_size
from cellseg_mm.utils import UserError

from ..splits import patient_of
from .rasterize import OutlinesSample, to_ring, with_rules
from .sample import by_stem, images_by_stem, pair_labels, split_folders, subfolders, visible
from .task import CLASSES
from .xml_file import ASAP_ROOT, find_xml, parse_xml, root_tag

IGNORED_CLASS = 'ambiguous'
GENERIC = ('', 'description')  # names that ImageScope gives by default
ELLIPSE_POINTS = 64


def recognises(src: Path) -> bool:
    """Whether a folder looks like it: it has XML that names classes or is empty, and no XML of ASAP."""
    files = find_xml(src)
    return bool(files) and not any(root_tag(path) == ASAP_ROOT for path in files) and not is_without_classes(files)


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of a source folder, and the class names.

    Raises:
        UserError: See :func:`by_stem`, :func:`pair_labels` and :func:`read_regions`.
    """
    samples, classes = [], classes or CLASSES
    for split, folder in split_folders(src):
        for place in [folder, *subfolders(folder)]:
            for pair in pair_labels(images_by_stem(place), by_stem(visible(place, '.xml')), split):
                group = patient_of(pair[0] if place == folder else place.name)
                samples.append(MonusacSample(*pair, classes, group=group))
    return with_rules(samples), classes


def is_without_classes(files: list) -> bool:
    """Whether the first file of ImageScope with a region names no class, as in MoNuSeg.

    Raises:
        UserError: See :func:`parse_xml`.
    """
    for path in files:
        regions = [
            (layer, one) for layer in parse_xml(path).iter('Annotation') for one in layer.findall('Regions/Region')
        ]
        if regions:
            return not any(_texts(*region) for region in regions)
    return False


def read_regions(path: Path, classes: tuple) -> list:
    """(class name, outline) of each region of a file.

    Raises:
        UserError: If it is not XML of ImageScope, or a region has no known class or no area.
    """
    root = parse_xml(path)
    if root.tag != 'Annotations':
        raise UserError(f'{path}: its root is <{root.tag}>; ImageScope writes <Annotations> with Regions in it')
    layers = []
    for number, layer in enumerate(root.iter('Annotation'), start=1):
        parts = {part.tag for part in layer}
        if parts and not parts & {'Regions', 'Attributes', 'Plots'}:
            raise UserError(f'{path}: layer {number} has <{sorted(parts)[0]}>; ImageScope writes <Regions> there')
        layers.append((layer, layer.findall('Regions/Region')))
    layers = [(layer, regions) for layer, regions in layers if regions]
    texts = {text for layer, regions in layers for region in regions for text in _texts(layer, region)}
    found = []
    for layer, regions in layers:
        for index, region in enumerate(regions, start=1):
            name = _class_of(layer, region, classes, is_only=not texts and len(classes) == 1, path=path)
            where = f'{path}: {name} region {index}'
            if region.get('NegativeROA') == '1':
                raise UserError(f'{where}: is a hole (NegativeROA), which cannot be read; delete it')
            points = [(vertex.get('X'), vertex.get('Y')) for vertex in region.iter('Vertex')]
            found.append((name, [(_to_outline(to_ring(points, where), region.get('Type', '0'), where), False)]))
    return found


def _texts(layer: ElementTree.Element, region: ElementTree.Element) -> list:
    """The texts that may name the class of a region."""
    attributes = [part.get(key, '') for part in layer.findall('Attributes/Attribute') for key in ('Name', 'Value')]
    texts = [text.strip() for text in [*attributes, layer.get('Name', ''), region.get('Text', '')]]
    return [text for text in texts if text.casefold() not in GENERIC]


def _class_of(
    layer: ElementTree.Element, region: ElementTree.Element, classes: tuple, is_only: bool, path: Path
) -> str:
    """The name of a region's class.

    Raises:
        UserError: If no text names a class, or texts name several.
    """
    if is_only:
        return classes[0]
    texts = _texts(layer, region)
    known = {name.casefold(): name for name in (IGNORED_CLASS, *classes)}
    found = list(dict.fromkeys(known[text.casefold()] for text in texts if text.casefold() in known))
    if not texts:
        raise UserError(
            f'{path}: no class in the Name of its layers, in their attributes or in the Text of its regions; if all '
            'are one class, name it with --classes NAME'
        )
    if not found:
        raise UserError(
            f'{path}: class {" or ".join(map(repr, texts))} is not one of {", ".join(classes)}; see --classes'
        )
    if len(found) > 1:
        raise UserError(
            f'{path}: a region has the classes {" and ".join(found)}, by its layer, attributes and Text; keep one'
        )
    return found[0]


def _to_outline(ring: np.ndarray, kind: str, where: str) -> np.ndarray:
    """The outline of a region of any type with an area.

    Raises:
        UserError: If the type has no area.
    """
    if kind not in ('0', '1', '2'):
        raise UserError(f'{where}: is of type {kind}, an arrow, ruler or point, which has no area; delete it')
    if kind == '0' or not len(ring) or (kind == '1' and len(ring) > 2) or len(ring) > 5:
        return ring
    (left, top), (right, bottom) = ring.min(axis=0), ring.max(axis=0)
    if kind == '1':
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    angle = np.arange(ELLIPSE_POINTS) * (2 * np.pi / ELLIPSE_POINTS)
    x, y = (
        (left + right) / 2 + (right - left) / 2 * np.cos(angle),
        (top + bottom) / 2 + (bottom - top) / 2 * np.sin(angle),
    )
    return np.stack([x, y], axis=1)


def read_pixel_size(path: Path) -> float | None:
    """Micrometres a px by ``MicronsPerPixel`` of the root; None if it is missing or impossible.

    Raises:
        UserError: See :func:`parse_xml`.
    """
    try:
        size = float(parse_xml(path).get('MicronsPerPixel', 'nan'))
    except ValueError:
        return None
    return checked_pixel_size(size, size)


class MonusacSample(OutlinesSample):
    """``source`` is the XML file."""

    def read_image(self) -> tuple:
        """See :meth:`Sample.read_image`; the XML file gives the pixel size that the image lacks."""
        image, note, pixel_size = super().read_image()
        return image, note, pixel_size or (self.source and read_pixel_size(self.source))

    def read_outlines(self) -> list:
        """See :func:`read_regions`."""
        return read_regions(self.source, self.classes)

    def is_ignored(self, name: str) -> bool:
        """As the test images of MoNuSAC mark what scoring leaves out."""
        return name.casefold() == IGNORED_CLASS
