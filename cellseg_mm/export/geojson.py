"""Cells as a GeoJSON FeatureCollection, in the form in which QuPath writes its own objects and reads them."""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely

from cellseg_mm.structures import Cells
from cellseg_mm.utils import printable
from cellseg_mm.visualization.draw import class_colors

from .trace_outlines import trace_outlines

# Cells whose outlines are in the memory at once.
CHUNK = 1000


class GeoJSONWriter:
    """``STEM.geojson``: a feature a cell, written as they come.

    The schema is that of QuPath from 0.4 on, as ``QuPathTypeAdapters.java`` in its source reads and writes it: an
    ``id`` that is a UUID, and the properties ``objectType``, 'detection', which is QuPath's type for objects in large
    numbers; ``name``, the cell's number in all formats; ``classification``, class name and colour; and
    ``measurements``, the score among them, rounded to 4 places. They must be finite, for QuPath fails on nan (its issue
    1293). Coordinates are px from the image's upper left corner on, see :func:`trace_outlines`. A repeated export gives
    the same ids.

    Args:
        folder (Path): Where the file is made.
        stem (str): Its name without the ending.
        source (object): The image; not used.
        classes (Sequence[str]): Names of the C classes.
    """

    endings = ('.geojson',)
    measured = True

    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None:
        colors = class_colors(len(classes))
        self._classifications = [dict(name=name, color=color) for name, color in zip(classes, colors, strict=True)]
        self._stem, self._count = printable(stem), 0
        self._file = open(folder / f'{stem}.geojson', 'w', encoding='utf-8')  # noqa: SIM115
        self._file.write('{"type": "FeatureCollection", "features": [')

    def write(self, cells: Cells, measurements: dict) -> None:
        """Add N cells, none of them empty, and their measurements, name to (N,)."""
        names = ['score', *measurements]
        table = np.column_stack([cells.scores, *measurements.values()]).round(4)
        for first in range(0, len(cells), CHUNK):
            chunk = np.arange(first, min(first + CHUNK, len(cells)))
            outlines = shapely.to_geojson(trace_outlines(cells.select(chunk)))
            rows = zip(outlines, cells.labels[chunk].tolist(), table[chunk].tolist(), strict=True)
            for outline, label, values in rows:
                # all coordinates are integers, which shapely writes with a decimal
                self._write_feature(outline.replace('.0', ''), label, dict(zip(names, values, strict=True)))

    def _write_feature(self, outline: str, label: int, measurements: dict) -> None:
        self._count += 1
        properties = dict(
            objectType='detection',
            name=str(self._count),
            classification=self._classifications[label],
            measurements=measurements,
        )
        identifier = uuid.uuid5(uuid.NAMESPACE_OID, f'{self._stem} {self._count} {outline}')
        self._file.write(
            f'{"," if self._count > 1 else ""}\n{{"type": "Feature", "id": "{identifier}", "geometry": {outline}, '
            f'"properties": {json.dumps(properties, allow_nan=False)}}}'
        )

    def __enter__(self) -> 'GeoJSONWriter':
        return self

    def __exit__(self, *error: object) -> None:
        with self._file:
            self._file.write('\n]}\n')
