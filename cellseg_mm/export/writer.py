from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cellseg_mm.structures import Cells

BLOCK = 4096  # cells


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
    def write(self, cells: Cells, measurements: dict) -> None:
        """Add a part.

        Args:
            cells (Cells): N cells, none without a pixel; the first part has no cell.
            measurements (dict[str, ndarray]): (N,) of each name; see :func:`measure_cells`. Empty if no format needs
                them.
        """

    def __enter__(self) -> 'Writer':
        return self

    @abstractmethod
    def __exit__(self, error: type | None, *details: object) -> None:
        """Finish the files."""


class BlockWriter(Writer):
    """A format that takes cells in blocks of :data:`BLOCK`, so that a file does not depend on the parts.

    Memory holds one block. Derived classes begin the file when they learn the names of the measurements.
    """

    measured = True
    by_default = False  # they need optional packages

    def __init__(self) -> None:
        self._waiting, self._count, self._begun = [], 0, False

    def write(self, cells: Cells, measurements: dict) -> None:
        """Add N cells and their measurements."""
        if not self._begun:
            self._begin(list(measurements))
            self._begun = True
        for first in range(0, len(cells), BLOCK):
            part = np.arange(first, min(first + BLOCK, len(cells)))
            self._waiting.append((cells.select(part), {name: values[part] for name, values in measurements.items()}))
            if sum(len(waiting) for waiting, _ in self._waiting) >= BLOCK:
                self._write_waiting(BLOCK)

    def _write_waiting(self, count: int) -> None:
        """Write the first ``count`` cells that wait."""
        cells = Cells.concatenate([part for part, _ in self._waiting])
        tables = [table for _, table in self._waiting]
        measurements = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
        now, later = np.split(np.arange(len(cells)), [count])
        self._write_block(self._count + 1, cells.select(now), {name: v[now] for name, v in measurements.items()})
        self._count += len(now)
        self._waiting = [(cells.select(later), {name: v[later] for name, v in measurements.items()})]

    def __exit__(self, error: type | None, *details: object) -> None:
        if not self._begun:
            return
        try:
            left = sum(len(waiting) for waiting, _ in self._waiting)
            if error is None and left:
                self._write_waiting(left)
        finally:
            self._close()

    @abstractmethod
    def _begin(self, names: list) -> None:
        """Begin the file; ``names`` are those of the measurements."""

    @abstractmethod
    def _write_block(self, first: int, cells: Cells, measurements: dict) -> None:
        """Write at most :data:`BLOCK` cells, at least one; the number of the first is ``first``, from 1."""

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
