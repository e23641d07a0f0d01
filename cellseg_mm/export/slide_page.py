"""A page that shows a slide with its cells, from the disk, without a server or a network."""

import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import shapely

from cellseg_mm.utils import printable
from cellseg_mm.visualization.colors import DENSITY_COLORS, class_colors, hex_color

from .density import count_by_place, density_grid
from .image_pyramid import TILE, write_pyramid
from .output_files import mark_folder
from .writer import Part, Writer

HERE = Path(__file__).parent
LIBRARY, LICENCE = (HERE / f'static/openseadragon.{ending}' for ending in ('min.js', 'LICENSE.txt'))
BLOCK_SIDE = 1024  # px a side of the squares whose cells lie in one script


class SlidePageWriter(Writer):
    """``STEM_slide.html`` and the folder ``STEM_slide``: the image with outlines, counts, and how dense cells lie.

    The folder holds ``tiles/LEVEL/COLUMN_ROW.jpg`` (see :func:`write_pyramid`), ``cells/COLUMN_ROW.js``, one script for
    the cells of each square of 1,024 px, and OpenSeadragon. The page loads scripts and tiles as it needs them; it
    fetches nothing, because browsers forbid that to pages from the disk.

    A script calls ``addCells(name, cells)``. A cell is [class, number, ring, ...], a ring x, y of a corner and then
    moves to the next corners, along x and along y by turns; the last move, back to the first corner, is left out.
    """

    endings = ('_slide.html', '_slide')
    by_default = False

    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None:
        self._page, self._folder = folder / f'{stem}_slide.html', folder / f'{stem}_slide'
        self._source, self._classes = source, list(classes)
        self._density = np.zeros((len(classes), *density_grid(source.height, source.width)), np.int64)
        self._blocks, self._count = set(), 0
        (self._folder / 'cells').mkdir(parents=True)
        mark_folder(self._folder)

    def write(self, part: Part) -> None:
        """Add the cells of a part to the scripts of their squares."""
        cells = part.cells
        centroids = cells.centroids()
        self._density += count_by_place(centroids, cells.labels, len(self._classes), cells.height, cells.width)
        blocks = centroids.astype(np.int64) // BLOCK_SIDE
        texts = defaultdict(list)
        for (column, row), label, outline in zip(blocks.tolist(), cells.labels.tolist(), part.outlines, strict=True):
            self._count += 1
            rings = [ring for area in shapely.get_parts(outline) for ring in (area.exterior, *area.interiors)]
            entry = [label, self._count, *map(_moves, rings)]
            texts[column, row].append(json.dumps(entry, separators=(',', ':')))
        for block, entries in texts.items():
            self._append(block, entries)

    def _append(self, block: tuple, entries: list) -> None:
        name = f'{block[0]}_{block[1]}'
        with open(self._folder / f'cells/{name}.js', 'a', encoding='utf-8') as file:
            file.write(',\n' if block in self._blocks else f'addCells("{name}",[\n')
            file.write(',\n'.join(entries))
        self._blocks.add(block)

    def __exit__(self, error: type | None, *details: object) -> None:
        if error is not None:
            return
        for block in self._blocks:
            with open(self._folder / f'cells/{block[0]}_{block[1]}.js', 'a', encoding='utf-8') as file:
                file.write('\n])\n')
        sizes = write_pyramid(self._source, self._folder / 'tiles')
        for path in (LIBRARY, LICENCE):
            shutil.copyfile(path, self._folder / path.name)
        colors = map(hex_color, class_colors(len(self._classes)))
        counts = self._density.sum(axis=(1, 2)).tolist()
        classes = [
            dict(name=name, color=color, count=count)
            for name, color, count in zip(map(printable, self._classes), colors, counts, strict=True)
        ]
        size = sum(file.stat().st_size for file in self._folder.rglob('*') if file.is_file())
        content = dict(
            name=printable(self._source.name) or self._folder.name.removesuffix('_slide'),
            folder=printable(self._folder.name),
            sizes=sizes,
            tile=TILE,
            block=BLOCK_SIDE,
            blocks=sorted(f'{column}_{row}' for column, row in self._blocks),
            classes=classes,
            density=self._density.tolist(),
            ramp=DENSITY_COLORS,
            pixel_size=self._source.pixel_size,
            megabytes=round(size / 1e6, 1),
        )
        # no text of the content may end the script
        data = json.dumps(content, separators=(',', ':')).replace('<', '\\u003c')
        page = (HERE / 'static/slide.html').read_text('utf-8').replace('{{ content }}', data)
        self._page.write_text(page.replace('{{ library }}', f'{quote(content["folder"])}/{LIBRARY.name}'), 'utf-8')


def _moves(ring: shapely.LinearRing) -> list:
    """A ring along pixel edges as x, y and its moves, the first one along x."""
    points = shapely.get_coordinates(ring)[:-1].astype(int)
    if points[0, 1] != points[1, 1]:
        points = np.roll(points, -1, axis=0)
    steps = np.diff(points, axis=0).sum(axis=1)  # one of both is 0
    return [*points[0].tolist(), *steps.tolist()]
