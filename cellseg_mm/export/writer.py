from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from cellseg_mm.structures import Cells


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
    """

    endings: tuple
    measured = False

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
