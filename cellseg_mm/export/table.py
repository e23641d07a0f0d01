"""Cells as a table."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .writer import Part, Writer


class TableWriter(Writer):
    """``STEM.csv``: one row for each cell, with its number in all formats, class, score and measurements.

    Columns of measurements have the names of :func:`measure_cells`; values are rounded to 4 places.
    """

    endings = ('.csv',)
    measured = True

    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None:
        self._classes, self._count = classes, 0
        self._file = open(folder / f'{stem}.csv', 'w', encoding='utf-8', newline='')  # noqa: SIM115
        self._rows = csv.writer(self._file)

    def write(self, part: Part) -> None:
        """Add a row for each cell; the first call also writes the header."""
        if self._file.tell() == 0:
            self._rows.writerow(['cell', 'class', 'score', *part.measurements])
        table = np.column_stack([part.cells.scores, *part.measurements.values()]).round(4)
        for label, values in zip(part.cells.labels.tolist(), table.tolist(), strict=True):
            self._count += 1
            self._rows.writerow([self._count, self._classes[label], *values])

    def __exit__(self, *error: object) -> None:
        self._file.close()
