"""A picture of an image as a whole: how dense the cells of each class lie, and how many there are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cellseg_mm.images import read_overview
from cellseg_mm.utils import printable, write_plot
from cellseg_mm.visualization import plot_density

from .density import count_by_place, density_grid, density_per_area, density_unit
from .writer import Part, Writer

THUMBNAIL = 640  # px of the longer side


class OverviewWriter(Writer):
    """``STEM_overview.png``: a thumbnail, a heat map of the density of each class over it, and a bar for each count."""

    endings = ('_overview.png',)

    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None:
        self._path, self._source, self._classes = folder / f'{stem}_overview.png', source, classes
        self._counts = np.zeros((len(classes), *density_grid(source.height, source.width)), np.int64)

    def write(self, part: Part) -> None:
        """Count the cells of a part."""
        cells = part.cells
        self._counts += count_by_place(cells.centroids(), cells.labels, len(self._classes), cells.height, cells.width)

    def __exit__(self, error: type | None, *details: object) -> None:
        if error is not None:
            return
        source = self._source
        size = f'{source.width:,} x {source.height:,} px'
        if source.pixel_size:
            sides = (side * source.pixel_size / 1000 for side in (source.width, source.height))
            size += ', {:.3g} x {:.3g} mm'.format(*sides)
        figure = plot_density(
            read_overview(source, THUMBNAIL)[0],
            density_per_area(self._counts, source.height, source.width, source.pixel_size),
            self._counts.sum(axis=(1, 2)).tolist(),
            [printable(name) for name in self._classes],
            f'{printable(source.name)}: {self._counts.sum():,} cells; {size}'.removeprefix(': '),
            density_unit(self._counts, source.height, source.width, source.pixel_size),
        )
        write_plot(self._path, figure)
