"""GeoJSON as QuPath exports it and as :mod:`cellseg_mm.export` writes it.

::

    SRC/NAME.png and SRC/NAME.geojson     # any image format; also in SRC/train, SRC/val and SRC/test

A file is a FeatureCollection, a list of features, or one. Coordinates are px from the image's upper left corner. A
class is the classification's name, or ``cell`` for objects without one; without --classes, all names that occur are
classes, in alphabetical order. In a data set without classifications, a property that looks like one (``class``,
``label``, ``cell_type`` ...) takes its place. Other properties with texts that repeat are not read, and a note says so.

The whole data set decides what an object is (see :class:`Plan`):

- Detections and cells are cells. In a data set that has some, annotations are regions, except those of a cell's size
  that enclose none, which are cells added by hand. In a data set without any, annotations are the cells.
- Outlines that enclose cells are regions and left out (see :mod:`.regions`).
- As in QuPath, objects of a class whose name ends with ``*`` (``Ignore*``) are ignored regions. But those that enclose
  cells, as ``Region*`` does, are the field that was annotated.
- In QuPath's cells, ``geometry`` is the cell and ``nucleusGeometry`` the nucleus; ``part`` chooses one.
- A MultiPolygon is one cell. But if each class is a single feature in every file, as CellViT writes it, each of its
  polygons is a cell.

Images of ``test`` may come without a file.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cellseg_mm.utils import UserError, read_json

from .rasterize import instances_from_outlines, survey_outlines, to_ring
from .regions import NO_RULES, Contents, RegionRules, find_regions, find_rules, is_starred, region_notes
from .sample import (
    MAX_PARTS,
    MIN_PART_AREA,
    Instances,
    Sample,
    by_stem,
    class_number,
    find_pairs,
    images_by_stem,
    split_folders,
    visible,
)

# Kinds of objects in QuPath, then their names up to QuPath 0.3.
NO_CELLS = ('tile', 'tma_core', 'root', 'pathtileobject', 'tmacoreobject', 'pathrootobject')
UNCLASSIFIED = 'cell'
# Names of properties that hold a class.
CLASS_PROPERTY = re.compile(
    r'(cell|nucle\w+|object|annotation)?[ _-]*(class(es|name|id)?|labels?|category|type|phenotype|group|kind|name)'
    r'([ _-]*(name|id))?',
    re.IGNORECASE,
)
# An annotation larger than so many detections is a region even if it encloses none.
MAX_RATIO_BY_HAND = 10
BY_HAND_NOTE = "annotations of a cell's size beside detections: cells"
EMPTY_REGION_NOTE = 'annotations without a cell in a set whose cells are detections: regions, left out'
PARTS_NOTE = 'polygons of a single feature for each class: a cell each'
PART_NOTES = dict(
    cell='cells that have an outline of their nucleus, too: the cell was taken (--part nucleus takes the nucleus)',
    nucleus='cells that have an outline of their nucleus, too: the nucleus was taken (--part cell takes the cell)',
)
OTHER_PROPERTY_NOTE = 'objects without a class but with a property {}: if it is their class, name it "class"'
NO_NUCLEUS_NOTE = 'cells without an outline of their nucleus: left out'


class Feature(NamedTuple):
    """One object of a file.

    Attributes:
        name: Its class.
        kind: The kind of object in QuPath: ``'annotation'``, ``'detection'``, ``'cell'``; ``''`` if unknown.
        where: Its place in the file, for messages.
        polygons: The polygons of its geometry, each a list of rings (P, 2) float64 px; all but the first are holes.
        nucleus: The polygons of its nucleus, or None.
        properties: Without a classification, the properties that look like a class.
        others: Without both, its other texts by the names of their properties.
    """

    name: str
    kind: str
    where: str
    polygons: list
    nucleus: list | None
    properties: dict
    others: dict

    @property
    def is_ignored(self) -> bool:
        """Whether its class is one to ignore."""
        return is_starred(self.name)

    def outline(self) -> list:
        """(ring, whether it is a hole) of all polygons."""
        return [(ring, index > 0) for rings in self.polygons for index, ring in enumerate(rings)]


class Plan(NamedTuple):
    """What the whole data set says about the objects of a file.

    Attributes:
        class_property: Name of the property that holds the class if no feature has a classification, or None.
        other_property: Name and some texts of another property that may hold it, or ``''``.
        has_detections: Whether there are detections or cells, so that annotations are regions.
        is_by_class: Whether a feature holds all cells of a class.
        rules: About regions.
    """

    class_property: str | None = None
    other_property: str = ''
    has_detections: bool = False
    is_by_class: bool = False
    rules: RegionRules = NO_RULES


NO_PLAN = Plan()


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    return any(visible(folder, '.geojson') for _, folder in split_folders(src))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of a source folder, and the class names.

    Raises:
        UserError: See :func:`by_stem`, :func:`pair_labels` and :func:`read_features`; or if no file has cells.
    """
    pairs = find_pairs(src, lambda folder: [(images_by_stem(folder), by_stem(visible(folder, '.geojson')))])
    plan, names = make_plan([path for *_, path in pairs if path])
    if classes is None:
        classes = tuple(sorted(names))
        if not classes:
            raise UserError(f'{src}: no cells in its .geojson files')
    return [GeoJSONSample(*pair, classes, plan=plan) for pair in pairs], classes


def read_features(path: Path, plan: Plan) -> list:
    """The objects of a file that may be cells or regions.

    Raises:
        UserError: If it is not a GeoJSON file of objects, or they are on several planes of a stack.
    """
    content = read_json(path, strict=True)
    if isinstance(content, dict):
        content = content.get('features', [content])
    if not isinstance(content, list):
        raise UserError(f'{path}: is not GeoJSON; a FeatureCollection or a list of features is needed')
    features, planes = [], set()
    for index, entry in enumerate(content):
        where = f'{path}: feature {index}'
        if not isinstance(entry, dict) or not isinstance(entry.get('geometry'), dict):
            raise UserError(f'{where}: has no geometry')
        properties = entry.get('properties') or {}
        classification = properties.get('classification') or {} if isinstance(properties, dict) else None
        if not isinstance(classification, dict):
            raise UserError(f'{where}: its properties or their classification are not a JSON object')
        # up to QuPath 0.3 the kind has other names
        kind = str(properties.get('objectType', properties.get('object_type', entry.get('id', '')))).lower()
        if kind in NO_CELLS:
            continue
        alike = {} if classification else _class_properties(dict(entry, **properties))
        name = _class_name(classification, where) or str(alike.get(plan.class_property, UNCLASSIFIED))
        kind = next((known for known in ('annotation', 'detection', 'cell') if known in kind), '')
        nucleus = entry.get('nucleusGeometry')
        nucleus = _polygons(nucleus, f'{where}: nucleus') if isinstance(nucleus, dict) else None
        others = {} if classification or alike else _texts(properties)
        feature = Feature(name, kind, where, _polygons(entry['geometry'], where), nucleus, alike, others)
        planes.add(_plane(entry['geometry']))
        is_split = plan.is_by_class and not feature.is_ignored
        features += [feature._replace(polygons=[rings]) for rings in feature.polygons] if is_split else [feature]
    if len(planes) > 1:
        found = ', '.join(f'z {z} t {t}' for z, t in sorted(planes))
        raise UserError(
            f'{path}: objects on {len(planes)} planes ({found}), but an image is one; keep those of its plane'
        )
    return features


def _plane(geometry: dict) -> tuple:
    """z and t of the plane of a stack on which QuPath has an object; it writes other planes than the first."""
    plane = geometry.get('plane')
    return tuple(str(plane.get(axis, 0)) if isinstance(plane, dict) else '0' for axis in 'zt')


def _class_name(classification: dict, where: str) -> str:
    """The name of a classification, ``''`` for none.

    Raises:
        UserError: If it is not empty but has no name.
    """
    names = classification.get('names')
    if isinstance(names, list) and names:
        return ': '.join(map(str, names))
    if classification and 'name' not in classification and names is None:
        raise UserError(f'{where}: its classification has {", ".join(map(str, classification))}, but no name')
    return str(classification.get('name') or '')


def _class_properties(properties: dict) -> dict:
    """Text or number of each property with a name for classes; for an object as value, its ``name``."""
    found = {}
    for key, value in properties.items():
        value = value.get('name') if isinstance(value, dict) else value
        is_value = isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != ''
        if is_value and key not in ('type', 'id', 'objectType', 'object_type') and CLASS_PROPERTY.fullmatch(key):
            found[key] = value
    if isinstance(properties.get('type'), (str, int)) and properties['type'] != 'Feature':
        found['type'] = properties['type']  # GeoJSON's is 'Feature'
    return found


def _texts(properties: dict) -> dict:
    """Text of each property, also within another one, without QuPath's own."""
    found = {}
    for key, value in properties.items():
        inner = {f'{key}.{name}': text for name, text in value.items()} if isinstance(value, dict) else {key: value}
        found |= {name: text for name, text in inner.items() if isinstance(text, str) and text}
    return {name: text for name, text in found.items() if name not in ('id', 'objectType', 'object_type')}


def _polygons(geometry: dict, where: str) -> list:
    """All polygons of a geometry, each a list of rings."""
    kind, polygons = geometry.get('type'), geometry.get('coordinates')
    if kind not in ('Polygon', 'MultiPolygon'):
        raise UserError(f'{where}: is a {kind}; cells are Polygons or MultiPolygons')
    polygons = [polygons] if kind == 'Polygon' else polygons
    if not isinstance(polygons, list) or not all(isinstance(rings, list) for rings in polygons):
        raise UserError(f'{where}: its coordinates are not lists of rings')
    return [[to_ring(ring, where) for ring in rings] for rings in polygons]


def count_parts(polygons: list) -> int:
    """Number of polygons that are large enough to be cells: at least 10 px and a quarter of the largest one's area."""
    rings = [rings[0] for rings in polygons if rings and len(rings[0])]
    areas = [abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2 for x, y in (ring.T for ring in rings)]
    return sum(area >= max(MIN_PART_AREA, max(areas) / 4) for area in areas)


def make_plan(paths: list) -> tuple:
    """What the files of a data set say together, and the names of the classes of cells in them.

    Raises:
        UserError: If several properties may hold the class.
    """
    plan = Plan(_find_class_property(paths), _find_other_property(paths))
    is_single, kinds, parts = True, set(), []
    for path in paths:
        features = [feature for feature in read_features(path, plan) if not feature.is_ignored]
        kinds |= {feature.kind for feature in features}
        is_single &= max(Counter(feature.name for feature in features).values(), default=0) <= 1
        parts += [count_parts(feature.polygons) for feature in features]
    is_several = np.array(parts, int) > 1
    has_many_parts = max(parts, default=0) > MAX_PARTS or is_several.sum() > len(parts) / 2
    plan = plan._replace(has_detections=bool(kinds & {'detection', 'cell'}), is_by_class=is_single and has_many_parts)
    surveys = []
    for features in (read_features(path, plan) for path in paths):
        content = survey(features)
        surveys.append(([feature._replace(polygons=[], nucleus=None) for feature in features], content))  # for memory
    contents = [
        content._replace(areas=np.where(_is_no_region(features, plan), content.areas, 0))
        for features, content in surveys
    ]
    rules = find_rules([content for _, content in surveys])
    rules = rules._replace(cell_area=find_rules(contents).cell_area)
    plan = plan._replace(rules=rules)
    names = set()
    for features, content in surveys:
        is_cell, _ = find_cells(features, content, plan)
        names |= {feature.name for feature, chosen in zip(features, is_cell, strict=True) if chosen}
    return plan, {name for name in names if not is_starred(name)}


def _is_no_region(features: list, plan: Plan) -> np.ndarray:
    return np.array([not plan.has_detections or feature.kind != 'annotation' for feature in features], bool)


def _find_class_property(paths: list) -> str | None:
    """The property that takes the place of classifications, or None.

    Its values repeat in a file; a number for each object would not.
    """
    values, repeats, first = defaultdict(set), set(), None
    has_class = False
    for path in paths:
        features = read_features(path, NO_PLAN)
        has_class |= any(not feature.properties and feature.name != UNCLASSIFIED for feature in features)
        counts = defaultdict(Counter)
        for feature in features:
            for key, value in feature.properties.items():
                counts[key][value] += 1
                first = first or feature
        for key, counter in counts.items():
            values[key] |= set(counter)
            if max(counter.values()) > 1 or len(features) == 1:
                repeats.add(key)
    found = sorted(repeats)
    if len(found) > 1:  # a name and a number for each class
        found = [key for key in found if any(isinstance(value, str) for value in values[key])] or found
    if not found:
        return None
    found_texts = ', '.join(f'{key} ({", ".join(sorted(map(str, values[key]))[:4])})' for key in found)
    if has_class and found != ['name']:  # the name of an object in QuPath
        raise UserError(f'{first.where}: has no classification, as others have, but {found_texts}; give it one')
    if has_class:
        return None
    if len(found) > 1:
        raise UserError(f'{first.where}: has no classification, but {found_texts}; keep one of them')
    return found[0]


def _find_other_property(paths: list) -> str:
    """The first other property with several texts that repeat in the data set; see :class:`Plan`."""
    counts = defaultdict(Counter)
    for path in paths:
        for feature in read_features(path, NO_PLAN):
            for key, text in feature.others.items():
                counts[key][text] += 1
    for key, counter in sorted(counts.items()):
        if 1 < len(counter) <= counter.total() / 2:
            return f'{key} ({", ".join(sorted(counter)[:4])})'
    return ''


def survey(features: list) -> Contents:
    """What the objects of a file enclose. Detections and cells are never regions."""
    return survey_outlines(
        [(f'{feature.kind} {feature.name}', feature.outline()) for feature in features],  # kinds are judged separately
        is_starred,
        [feature.kind in ('', 'annotation') for feature in features],
    )


def find_cells(features: list, content: Contents, plan: Plan) -> tuple:
    """Which of N objects of a file are cells or ignored regions.

    Returns:
        tuple: (N,) bool; and notes on the others and on unusual objects, each with a count.
    """
    is_region = find_regions(content, plan.rules)
    by_hand = _is_no_region(features, plan)
    by_hand = ~by_hand & ~content.is_ignored & ~is_region
    is_large = content.areas > MAX_RATIO_BY_HAND * plan.rules.cell_area
    notes = region_notes(content, is_region)
    notes[EMPTY_REGION_NOTE] = int(np.count_nonzero(by_hand & is_large))
    notes[BY_HAND_NOTE] = int(np.count_nonzero(by_hand & ~is_large))
    is_cell = ~is_region & ~(by_hand & is_large)
    if plan.is_by_class:
        notes[PARTS_NOTE] = int(np.count_nonzero(is_cell & ~content.is_ignored))
    return is_cell, notes


@dataclass(frozen=True)
class GeoJSONSample(Sample):
    """``source`` is the GeoJSON file.

    Attributes:
        plan: What the data set says about its objects.
    """

    plan: Plan = NO_PLAN

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the file's order."""
        features = read_features(self.source, self.plan)
        is_cell, notes = find_cells(features, survey(features), self.plan)
        if self.plan.other_property:
            notes[OTHER_PROPERTY_NOTE.format(self.plan.other_property)] = sum(bool(own.others) for own in features)
        cells, has_nuclei = [], any(feature.nucleus for feature in features)
        for feature in (feature for feature, chosen in zip(features, is_cell, strict=True) if chosen):
            number = 0 if feature.is_ignored else class_number(feature.name, self.classes, feature.where)
            if not feature.is_ignored and count_parts(feature.polygons) > MAX_PARTS:
                raise UserError(
                    f'{feature.where}: has {count_parts(feature.polygons)} separate parts, but each cell must be a '
                    'feature of its own; split it (in QuPath: Objects > Annotations > Split annotations)'
                )
            if feature.nucleus and not feature.is_ignored:
                notes[PART_NOTES[self.part]] = notes.get(PART_NOTES[self.part], 0) + 1
                feature = feature._replace(polygons=feature.nucleus if self.part == 'nucleus' else feature.polygons)
            elif self.part == 'nucleus' and feature.kind == 'cell' and has_nuclei:
                notes[NO_NUCLEUS_NOTE] = notes.get(NO_NUCLEUS_NOTE, 0) + 1
                continue
            cells.append((number, feature.is_ignored, feature.outline()))
        instances = instances_from_outlines(cells, *shape, str(self.source))
        return replace(instances, notes={**instances.notes, **notes})
