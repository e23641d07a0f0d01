"""Outlines from ASAP (https://github.com/computationalpathologygroup/ASAP).

::

    SRC/NAME.png and SRC/NAME.xml     # any image format; also in folders of slides, and in SRC/train, SRC/val, SRC/test

Each ``Annotation`` of the XML has ``Coordinate`` elements with X and Y in px from the image's upper left corner. Its
class is its group, ``PartOfGroup``, or ``cell`` for ``None``; without --classes, all groups that occur are classes, in
alphabetical order. Polygons, rectangles and splines are read, splines as straight lines between their points. Dots and
point sets have no area and are refused. Outlines that enclose cells are regions and left out, see :mod:`.regions`.
"""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from cellseg_mm.utils import UserError

from .rasterize import OutlinesSample, to_ring, with_rules
from .regions import is_starred
from .sample import by_stem, find_pairs, images_by_stem, subfolders, visible
from .xml_file import ASAP_ROOT, find_xml, parse_xml, root_tag

TYPES = ('Polygon', 'Rectangle', 'Spline')
UNGROUPED = 'cell'


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    return any(root_tag(path) == ASAP_ROOT for path in find_xml(src))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of a source folder, and the class names.

    Raises:
        UserError: See :func:`by_stem`, :func:`pair_labels` and :func:`read_outlines`; or if no file has cells.
    """
    samples = with_rules([ASAPSample(*pair, ()) for pair in find_pairs(src, _places)])
    if classes is None:
        names = {name for sample in samples if sample.source for name, _ in sample.read_outlines()}
        regions = samples[0].rules.classes if samples else ()
        classes = tuple(name for name in sorted(names) if name not in regions and not is_starred(name))
        if not classes:
            raise UserError(f'{src}: no cells in its .xml files')
    return [replace(sample, classes=classes) for sample in samples], classes


def _places(folder: Path) -> list:
    """Images and XML files by name, in a folder and in those of slides in it."""
    return [(images_by_stem(place), by_stem(visible(place, '.xml'))) for place in [folder, *subfolders(folder)]]


def read_outlines(path: Path) -> list:
    """(class name, outline) of each annotation of a file.

    Raises:
        UserError: If it is not XML of ASAP, or an annotation has no area.
    """
    root = parse_xml(path)
    if root.tag != ASAP_ROOT:
        raise UserError(f'{path}: its root is <{root.tag}>; ASAP writes <{ASAP_ROOT}>')
    found = []
    for index, annotation in enumerate(root.iter('Annotation'), start=1):
        where = f'{path}: annotation {index}'
        kind, name = annotation.get('Type'), annotation.get('PartOfGroup', 'None').strip()
        if kind not in TYPES:
            raise UserError(f'{where}: is a {kind}, which has no area; draw cells as {", ".join(TYPES)}')
        points = [(point.get('X'), point.get('Y')) for point in _in_order(annotation)]
        found.append((UNGROUPED if name in ('', 'None') else name, [(to_ring(points, where), False)]))
    return found


def _in_order(annotation: ElementTree.Element) -> list:
    """The coordinates in their stated order, or in the file's order."""
    points = list(annotation.iter('Coordinate'))
    orders = [point.get('Order', '') for point in points]
    return sorted(points, key=lambda point: int(point.get('Order'))) if all(map(str.isdecimal, orders)) else points


class ASAPSample(OutlinesSample):
    """``source`` is the XML file."""

    def read_outlines(self) -> list:
        """See :func:`read_outlines`."""
        return read_outlines(self.source)

    def is_ignored(self, name: str) -> bool:
        """As in QuPath."""
        return is_starred(name)
