"""Cells as a GeoParquet table, which GeoPandas, QGIS, DuckDB and R (arrow, geoarrow) read."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely

from .writer import BlockWriter, Part

# No geometry types: they must be exact, and are unknown before the last cell.
GEOMETRY = dict(encoding='WKB', geometry_types=[], crs=None, orientation='counterclockwise', edges='planar')
GEO = dict(version='1.1.0', primary_column='geometry', columns=dict(geometry=GEOMETRY))


class GeoParquetWriter(BlockWriter):
    """``STEM.parquet``: one row for each cell.

    Columns are ``cell``, its number in all formats; ``class``, a category; ``score``; the measurements, see
    :func:`measure_cells`; and ``geometry``, the outline as WKB, a Polygon or MultiPolygon in px from the image's upper
    left corner, see :func:`trace_outlines`. The metadata are those of GeoParquet 1.1
    (https://geoparquet.org/releases/v1.1.0). There is no coordinate reference system, because an image has none: y
    points down.
    """

    endings = ('.parquet',)
    needs = 'pyarrow'

    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None:
        super().__init__()
        self._path, self._classes = folder / f'{stem}.parquet', list(classes)

    def _begin(self, names: list) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        class_type = pa.dictionary(pa.int32(), pa.string())
        columns = [('cell', pa.int64()), ('class', class_type), ('score', pa.float32())]
        columns += [*((name, pa.float64()) for name in names), ('geometry', pa.binary())]
        self._schema = pa.schema(columns, dict(geo=json.dumps(GEO)))
        self._file = parquet.ParquetWriter(self._path, self._schema, compression='zstd')

    def _columns(self, part: Part) -> dict:
        return dict(part.measurements, geometry=shapely.to_wkb(part.outlines, flavor='iso'))

    def _write_block(self, first: int, label: np.ndarray, score: np.ndarray, **columns: np.ndarray) -> None:
        import pyarrow as pa

        names = pa.DictionaryArray.from_arrays(pa.array(label, pa.int32()), pa.array(self._classes, pa.string()))
        rows = [np.arange(first, first + len(label)), names, score, *columns.values()]
        arrays = [pa.array(column, field.type) for column, field in zip(rows, self._schema, strict=True)]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def _close(self) -> None:
        self._file.close()
