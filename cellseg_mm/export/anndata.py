"""Cells as an AnnData file, which scanpy, squidpy and SpatialData read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cellseg_mm.utils import printable

from .writer import BLOCK, BlockWriter


class AnnDataWriter(BlockWriter):
    """``STEM.h5ad``: one observation for each cell.

    ``X`` holds the measurements, (N, M) float32, with their names in ``var_names``, see :func:`measure_cells`. ``obs``
    holds ``class``, a category, and ``score``; ``obs_names`` are the cells' numbers in all formats. ``obsm['spatial']``
    holds the centroids as (N, 2) float64, x and y in px, as squidpy expects them. ``uns['image']`` holds the image's
    ``file``, ``width`` and ``height`` in px.

    The file is written part by part in the on-disk form of AnnData (https://anndata.readthedocs.io, "On-disk format",
    versions of the elements as in 0.8 to 0.12), because AnnData itself writes whole tables alone.
    """

    endings = ('.h5ad',)
    needs = 'h5py'

    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None:
        super().__init__()
        self._path, self._classes, self._source = folder / f'{stem}.h5ad', list(classes), source

    def _begin(self, names: list) -> None:
        import h5py

        self._file = file = h5py.File(self._path, 'w')
        self._text = h5py.string_dtype('utf-8')
        _mark(file, 'anndata', '0.1.0')
        columns = dict(X=((len(names),), np.float32), **{'obsm/spatial': ((2,), np.float64)})
        for name in ('layers', 'obsm', 'obsp', 'uns', 'uns/image', 'varm', 'varp'):
            _mark(file.create_group(name), 'dict', '0.1.0')
        self._add_frame('obs', ['class', 'score'])
        self._add_frame('var', [])
        self._add_texts('var/_index', names)
        kind = _mark(file.create_group('obs/class'), 'categorical', '0.2.0')
        kind.attrs['ordered'] = False
        self._add_texts('obs/class/categories', self._classes)
        columns['obs/class/codes'] = ((), np.int8 if len(self._classes) < 128 else np.int32)
        columns['obs/score'] = ((), np.float32)
        for name, (shape, dtype) in columns.items():
            _mark(self._add_rows(name, shape, dtype), 'array', '0.2.0')
        _mark(self._add_rows('obs/_index', (), self._text), 'string-array', '0.2.0')
        for name in ('width', 'height'):
            dataset = file.create_dataset(f'uns/image/{name}', data=getattr(self._source, name))
            _mark(dataset, 'numeric-scalar', '0.2.0')
        name = file.create_dataset('uns/image/file', data=printable(self._source.name), dtype=self._text)
        _mark(name, 'string', '0.2.0')

    def _add_frame(self, name: str, columns: list) -> None:
        frame = _mark(self._file.create_group(name), 'dataframe', '0.2.0')
        frame.attrs['_index'] = '_index'
        frame.attrs['column-order'] = np.array(columns, dtype=self._text)

    def _add_texts(self, name: str, texts: list) -> None:
        _mark(self._file.create_dataset(name, data=np.array(texts, object), dtype=self._text), 'string-array', '0.2.0')

    def _add_rows(self, name: str, shape: tuple, dtype: object) -> object:
        """A data set without a row, which can grow."""
        chunks, most = (BLOCK, *shape), (None, *shape)
        return self._file.create_dataset(name, (0, *shape), dtype, chunks=chunks, maxshape=most)

    def _write_block(self, first: int, label: np.ndarray, score: np.ndarray, **columns: np.ndarray) -> None:
        numbers = range(first, first + len(label))
        rows = {
            'X': np.column_stack(list(columns.values())),
            'obs/class/codes': label,
            'obs/score': score,
            'obs/_index': np.array([str(number) for number in numbers], object),
            'obsm/spatial': np.column_stack([columns['centroid_x_px'], columns['centroid_y_px']]),
        }
        for name, values in rows.items():
            dataset = self._file[name]
            dataset.resize(numbers.stop - 1, axis=0)
            dataset[first - 1 :] = values

    def _close(self) -> None:
        self._file.close()


def _mark(element: object, kind: str, version: str) -> object:
    """Say how a part of the file is encoded; the part itself."""
    element.attrs['encoding-type'], element.attrs['encoding-version'] = kind, version
    return element
