"""GeoJSON as QuPath exports it and as :mod:`cellseg_mm.export` writes it.

::

    SRC/NAME.png and SRC/NAME.geojson     # any image format; also in SRC/train, SRC/val and SRC/test

A file is a FeatureCollection, a list of features, or one. Coordinates are px from the image's upper left corner on. A
class is the classification's name; without --classes all names that occur are taken, in the order of the alphabet, and
``cell`` for objects without one. As in QuPath, a class whose name ends with ``*`` (``Ignore*``) is one to ignore: its
objects are regions in which nothing is scored.

Of a file that has detections or cells, annotations without such a class are taken for the regions that they were found
in and left out; elsewhere annotations are the cells. Images of ``test`` may come without a file.
"""

from pathlib import Path

from cellseg_mm.utils import UserError

from .outlines import instances_from_outlines, to_ring
from .sample import (
    Instances,
    Sample,
    by_stem,
    class_number,
    images_by_stem,
    load_json,
    pair_labels,
    split_folders,
    visible,
)

# of QuPath's kinds of objects, the latter as they are named up to 0.3
NO_CELLS = ('tile', 'tma_core', 'root', 'pathtileobject', 'tmacoreobject', 'pathrootobject')
UNCLASSIFIED = 'cell'


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    return any(visible(folder, '.geojson') for _, folder in split_folders(src))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of a source folder, and the class names.

    Raises:
        UserError: See :func:`by_stem` and :func:`pair_labels`; or if no file has a cell.
    """
    found = []
    for split, folder in split_folders(src):
        pairs = pair_labels(images_by_stem(folder), by_stem(visible(folder, '.geojson')), split)
        found += [(name, split, image, source) for name, image, source in pairs]
    if classes is None:
        names = {name for *_, path in found if path for name, *_ in read_objects(path)}
        classes = tuple(sorted(name for name in names if not name.endswith('*')))
        if not classes:
            raise UserError(f'{src}: no cell in its .geojson files')
    return [GeoJSONSample(*entry, classes) for entry in found], classes


def read_objects(path: Path) -> list:
    """Class name, place in the file and geometry of the objects of a file that are cells or regions to ignore.

    Raises:
        UserError: If it is no such file.
    """
    content = load_json(path)
    if isinstance(content, dict):
        content = content.get('features', [content])
    if not isinstance(content, list):
        raise UserError(f'{path}: is no GeoJSON; a FeatureCollection or a list of features is needed')
    objects = []
    for index, feature in enumerate(content):
        where = f'{path}: feature {index}'
        if not isinstance(feature, dict) or not isinstance(feature.get('geometry'), dict):
            raise UserError(f'{where}: has no geometry')
        properties = feature.get('properties') or {}
        classification = properties.get('classification') or {} if isinstance(properties, dict) else None
        if not isinstance(classification, dict):
            raise UserError(f'{where}: its properties or their classification are no JSON object')
        # up to QuPath 0.3 the kind had other names
        kind = properties.get('objectType', properties.get('object_type', feature.get('id', '')))
        objects.append((_class_name(classification), str(kind).lower(), where, feature['geometry']))
    has_detections = any('detection' in kind or 'cell' in kind for _, kind, *_ in objects)
    return [
        (name, where, geometry)
        for name, kind, where, geometry in objects
        if kind not in NO_CELLS and (name.endswith('*') or not (has_detections and 'annotation' in kind))
    ]


def _class_name(classification: dict) -> str:
    names = classification.get('names')
    return (
        ': '.join(map(str, names))
        if isinstance(names, list) and names
        else str(classification.get('name') or UNCLASSIFIED)
    )


class GeoJSONSample(Sample):
    """``source`` is the GeoJSON file."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the file's order."""
        cells = []
        for name, where, geometry in read_objects(self.source):
            is_ignored = name.endswith('*')
            number = 0 if is_ignored else class_number(name, self.classes, where)
            cells.append((number, is_ignored, _outline(geometry, where)))
        return instances_from_outlines(cells, *shape, str(self.source))


def _outline(geometry: dict, where: str) -> list:
    """(ring, whether it is a hole) of all polygons of a geometry."""
    kind, polygons = geometry.get('type'), geometry.get('coordinates')
    if kind not in ('Polygon', 'MultiPolygon'):
        raise UserError(f'{where}: is a {kind}; cells are Polygons or MultiPolygons')
    polygons = [polygons] if kind == 'Polygon' else polygons
    if not isinstance(polygons, list) or not all(isinstance(rings, list) for rings in polygons):
        raise UserError(f'{where}: its coordinates are no lists of rings')
    return [(to_ring(ring, where), index > 0) for rings in polygons for index, ring in enumerate(rings)]
