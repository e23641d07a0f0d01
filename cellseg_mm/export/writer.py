import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellseg_mm.structures import Cells

from .trace_outlines import trace_outlines

BLOCK = 4096  # cells
CHUNK = 1000  # cells that are traced at once


@dataclass(frozen=True)
class Part:
    """N cells of an image, and what several formats need of them.

    Attributes:
        cells (Cells): N cells, none without a pixel.
        measurements (dict[str, ndarray]): (N,) of each name, see :func:`measure_cells`. Empty if no format needs them.
    """

    cells: Cells
    measurements: dict

    def __len__(self) -> int:
        return len(self.cells)

    @functools.cached_property
    def outlines(self) -> np.ndarray:
        """(N,) polygons, see :func:`trace_outlines`; traced once, however many formats ask."""
        outlines = np.full(len(self), None)
        for first in range(0, len(self), CHUNK):
            chunk = np.arange(first, min(first + CHUNK, len(self)))
            outlines[chunk] = trace_outlines(self.cells.select(chunk))
        return outlines


class Writer(ABC):
    """An export format: writes the cells of an image to files, part by part, within a ``with`` block.

    Args:
        folder (Path): Folder of the files.
        stem (str): Beginning of their names.
        source (object): The image, with ``height``, ``width`` and ``name`` (of its file).
        classes (Sequence[str]): Names of the C classes.

    Attributes:
        endings (tuple[str]): Endings of the files' names after the stem; ``--resume`` looks for these files.
        measured (bool): Whether the format needs measurements, which take the image's pixels.
        needs (str): The optional package that the format needs, see requirements-tables.txt; empty without one.
        by_default (bool): Whether tools/predict.py writes the format without being asked.
    """

    endings: tuple
    measured = False
    needs = ''
    by_default = True

    @abstractmethod
    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None: ...

    @abstractmethod
    def write(self, part: Part) -> None:
        """Add a part of the image's cells. The first part is empty."""

    def __enter__(self) -> 'Writer':
        return self

    @abstractmethod
    def __exit__(self, error: type | None, *details: object) -> None:
        """Finish the files."""


class BlockWriter(Writer):
    """A format that takes the rows of a table in blocks of :data:`BLOCK`, so that a file does not depend on the parts.

    Memory holds one block. Derived classes begin the file when they learn the names of the measurements.
    """

    measured = True
    by_default = False  # they need optional packages

    def __init__(self) -> None:
        self._waiting, self._count, self._begun = [], 0, False

    def write(self, part: Part) -> None:
        """Add the rows of a part."""
        if not self._begun:
            self._begin(list(part.measurements))
            self._begun = True
        table = dict(label=part.cells.labels, score=part.cells.scores, **self._columns(part))
        for first in range(0, len(part), BLOCK):
            self._waiting.append({name: values[first : first + BLOCK] for name, values in table.items()})
            if sum(len(waiting['label']) for waiting in self._waiting) >= BLOCK:
                self._write_waiting(BLOCK)

    def _write_waiting(self, count: int) -> None:
        """Write the first ``count`` rows that wait."""
        table = {name: np.concatenate([waiting[name] for waiting in self._waiting]) for name in self._waiting[0]}
        block = {name: values[:count] for name, values in table.items()}
        self._write_block(self._count + 1, **block)
        self._count += len(block['label'])
        self._waiting = [{name: values[count:] for name, values in table.items()}]

    def __exit__(self, error: type | None, *details: object) -> None:
        if not self._begun:
            return
        try:
            left = sum(len(waiting['label']) for waiting in self._waiting)
            if error is None and left:
                self._write_waiting(left)
        finally:
            self._close()

    def _columns(self, part: Part) -> dict:
        """(N,) of each name: the columns after ``label`` and ``score``."""
        return part.measurements

    @abstractmethod
    def _begin(self, names: list) -> None:
        """Begin the file; ``names`` are those of the measurements."""

    @abstractmethod
    def _write_block(self, first: int, label: np.ndarray, score: np.ndarray, **columns: np.ndarray) -> None:
        """Write at most :data:`BLOCK` rows, at least one; the number of the first cell is ``first``, from 1."""

    @abstractmethod
    def _close(self) -> None:
        """Close the file, also after an error."""


class JSONListWriter(Writer):
    """A format of one JSON file: an object whose last entry is a list with an item for each cell."""

    def _open(self, path: Path, head: str) -> None:
        """Begin the file; ``head`` ends with the list's opening bracket."""
        self._count = 0
        self._file = open(path, 'w', encoding='utf-8')  # noqa: SIM115
        self._file.write(head)

    def _add(self, item: str) -> None:
        self._count += 1
        self._file.write(f'{"," if self._count > 1 else ""}\n{item}')

    def __exit__(self, *error: object) -> None:
        with self._file:
            self._file.write('\n]}\n')
