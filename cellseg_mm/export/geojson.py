"""Cells as a GeoJSON FeatureCollection, in the form in which QuPath writes and reads its own objects."""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely

from cellseg_mm.structures import Cells
from cellseg_mm.utils import printable
from cellseg_mm.visualization.colors import class_colors

from .trace_outlines import trace_outlines
from .writer import JSONListWriter

# Cells whose outlines are in memory at once.
CHUNK = 1000


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

    def write(self, cells: Cells, measurements: dict) -> None:
        """Add N cells and their measurements."""
        names = ['score', *measurements]
        table = np.column_stack([cells.scores, *measurements.values()]).round(4)
        for first in range(0, len(cells), CHUNK):
            chunk = np.arange(first, min(first + CHUNK, len(cells)))
            outlines = shapely.to_geojson(trace_outlines(cells.select(chunk)))
            rows = zip(outlines, cells.labels[chunk].tolist(), table[chunk].tolist(), strict=True)
            for outline, label, values in rows:
                # all coordinates are integers, which shapely writes with a decimal
                self._add_feature(outline.replace('.0', ''), label, dict(zip(names, values, strict=True)))

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
