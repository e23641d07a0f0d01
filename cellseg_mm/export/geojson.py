"""Cells as a GeoJSON FeatureCollection, in the form in which QuPath writes and reads its own objects."""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely

from cellseg_mm.utils import printable
from cellseg_mm.visualization.colors import class_colors

from .writer import JSONListWriter, Part


class GeoJSONWriter(JSONListWriter):
    """``STEM.geojson``: one feature for each cell.

    The schema is that of QuPath since 0.4, see ``QuPathTypeAdapters.java`` in its source. A feature has a UUID as
    ``id`` and these properties: ``objectType``, 'detection', QuPath's type for objects in large numbers; ``name``, the
    cell's number in all formats; ``classification``, class name and colour; ``measurements``, including the score,
    rounded to 4 places. Measurements must be finite, because QuPath fails on nan (its issue 1293). Coordinates are px
    from the image's upper left corner, see :func:`trace_outlines`. A repeated export gives the same ids.
    """

    endings = ('.geojson',)
    measured = True

    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None:
        colors = class_colors(len(classes))
        self._classifications = [dict(name=name, color=color) for name, color in zip(classes, colors, strict=True)]
        self._stem = printable(stem)
        self._open(folder / f'{stem}.geojson', '{"type": "FeatureCollection", "features": [')

    def write(self, part: Part) -> None:
        """Add a feature for each cell."""
        names = ['score', *part.measurements]
        table = np.column_stack([part.cells.scores, *part.measurements.values()]).round(4)
        for outline, label, values in zip(part.outlines, part.cells.labels.tolist(), table.tolist(), strict=True):
            # all coordinates are integers, which shapely writes with a decimal
            text = shapely.to_geojson(outline).replace('.0', '')
            self._add_feature(text, label, dict(zip(names, values, strict=True)))

    def _add_feature(self, outline: str, label: int, measurements: dict) -> None:
        number = str(self._count + 1)
        properties = dict(
            objectType='detection',
            name=number,
            classification=self._classifications[label],
            measurements=measurements,
        )
        identifier = uuid.uuid5(uuid.NAMESPACE_OID, f'{self._stem} {number} {outline}')
        self._add(
            f'{{"type": "Feature", "id": "{identifier}", "geometry": {outline}, '
            f'"properties": {json.dumps(properties, allow_nan=False)}}}'
        )
