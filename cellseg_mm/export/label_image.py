"""Cells as label images."""

import itertools
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from cellseg_mm.structures import paint_pixels

from .writer import Part, Writer

# Bytes of pixels up to which a file is in strips: ImageJ opens neither tiles nor larger images.
MAX_STRIPPED = 2**31 - 1
# Px: rows of a strip, and the side of a tile.
STRIP, TILE = 64, 512
# Cells that are drawn at once: they lie anywhere in a row of tiles, and each touches pages of the file of its own.
CHUNK = 256


class LabelImageWriter(Writer):
    """``STEM_labels.tif``, a cell's number at each of its pixels, and ``STEM_classes.tif``, its class index + 1.

    Background is 0 in both. Labels are uint16, or int32 above 65,535 cells, which more programs read than uint32;
    classes are uint8, or uint16 above 255 classes. The files are compressed losslessly (zlib), in strips, or in tiles
    above 2 GiB of pixels.

    Where cells overlap, the pixel belongs to the cell of the earlier call of :meth:`write`, and within a call to the
    cell of the higher score. A cell of which less than half is left is not drawn, as in :meth:`Cells.instance_map`.

    Cells come in any order, so the labels are first drawn into a temporary file. Memory holds only the part of it that
    :data:`CHUNK` cells, a strip or a tile touch.
    """

    endings = ('_labels.tif', '_classes.tif')

    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None:
        self._path = folder / stem
        self._class_values = [np.zeros(1, np.uint8 if len(classes) <= np.iinfo(np.uint8).max else np.uint16)]
        self._count = 0
        self._scratch = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._shape = (source.height, source.width)
        self._scratch.truncate(np.int32().nbytes * source.height * source.width)

    def write(self, part: Part) -> None:
        """Draw the cells of a part."""
        cells = part.cells
        order = np.argsort(-cells.scores, kind='stable')
        places_of_each = cells.runs.select(order, len(cells)).places_of_each(len(cells))
        height, width = self._shape
        pixels_of_each = (places % height * width + places // height for places in places_of_each)  # row by row
        for first in range(0, len(cells), CHUNK):
            ids = self._count + 1 + order[first : first + CHUNK]
            paint_pixels(self._map_scratch().reshape(-1), itertools.islice(pixels_of_each, len(ids)), ids)
        self._class_values.append((cells.labels + 1).astype(self._class_values[0].dtype))
        self._count += len(cells)

    def __exit__(self, error: type | None, *details: object) -> None:
        with self._scratch:
            if error is None:
                dtype = np.uint16 if self._count <= np.iinfo(np.uint16).max else np.int32
                self._write_tiff('labels', np.arange(self._count + 1, dtype=dtype))
                self._write_tiff('classes', np.concatenate(self._class_values))

    def _map_scratch(self) -> np.ndarray:
        """The labels drawn so far, (H, W) int32; a new mapping each time, because dropping one frees its memory."""
        return np.memmap(self._scratch, np.int32, 'r+', shape=self._shape)

    def _write_tiff(self, name: str, values: np.ndarray) -> None:
        """Write the image part by part, with ``values`` (count + 1,) in place of the cells' numbers."""
        height, width = self._shape
        in_strips = height * width * values.itemsize <= MAX_STRIPPED
        side = STRIP if in_strips else TILE
        if in_strips and STRIP < height <= 2 * STRIP:
            side = height  # ImageJ 1.53 misreads the sizes of two strips if they are small enough to stand in the tag
        columns, layout = (width, dict(rowsperstrip=side)) if in_strips else (side, dict(tile=(side, side)))
        parts = (
            values[self._map_scratch()[y : y + side, x : x + columns]]
            for y in range(0, height, side)
            for x in range(0, width, columns)
        )
        if in_strips:
            # encoded here, because tifffile takes an iterator of strips only as bytes
            parts = (zlib.compress(part.tobytes()) for part in parts)
        tifffile.imwrite(
            f'{self._path}_{name}.tif',
            parts,
            shape=self._shape,
            dtype=values.dtype,
            compression='zlib',
            photometric='minisblack',
            bigtiff=not in_strips,  # plain TIFF ends at 4 GiB; how far the tiles compress is not known yet
            **layout,
        )
