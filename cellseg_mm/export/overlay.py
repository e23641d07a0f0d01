"""A picture of an image with its cells."""

from collections.abc import Sequence
from pathlib import Path

import cv2

from cellseg_mm.images import read_overview
from cellseg_mm.utils import printable
from cellseg_mm.visualization import Overlay

from .writer import Part, Writer

MAX_SIDE = 4096  # px; the picture of a larger image is an overview


class OverlayWriter(Writer):
    """``STEM_overlay.png``: the image with its cells outlined by class, and a legend that counts them."""

    endings = ('_overlay.png',)

    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None:
        self._path, self._name, self._count = folder / f'{stem}_overlay.png', printable(source.name), 0
        overview, shrink = read_overview(source, MAX_SIDE)
        self._overlay = Overlay(overview, classes, shrink)

    def write(self, part: Part) -> None:
        """Outline the cells of a part."""
        self._overlay.add(part.cells)
        self._count += len(part)

    def __exit__(self, error: type | None, *details: object) -> None:
        if error is None:
            picture = self._overlay.picture(f'{self._name}: {self._count:,} cells'.removeprefix(': '))
            self._path.write_bytes(cv2.imencode('.png', picture[..., ::-1])[1].tobytes())
