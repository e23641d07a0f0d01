"""Cells as label images."""

import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from cellseg_mm.structures import Cells

# Share of its own area that a cell must keep where others cover it, as in `Cells.instance_map`.
MIN_VISIBLE = 0.5
# Bytes of pixels up to which a file is in strips: ImageJ opens no tiles, and no image of more.
MAX_STRIPPED = 2**31 - 1
# Px: rows of a strip, and the side of a tile.
STRIP, TILE = 64, 512


class LabelImageWriter:
    """``STEM_labels.tif``, a cell's number at each of its pixels, and ``STEM_classes.tif``, its class index + 1.

    Both have 0 as background. Labels are uint16, or int32 (which more programs read than uint32) above 65,535 cells;
    classes are uint8. The files are compressed losslessly (zlib), in strips, or in tiles above 2 GiB of pixels.

    Where cells overlap, one that came in an earlier call of :meth:`write` has the pixel, and within a call the one with
    the higher score. A cell of which less than half is left is not drawn, as in :meth:`Cells.instance_map`.

    Cells come in any order, so that the labels are first drawn into a temporary file. Of it only what a call of
    :meth:`write`, a strip or a row of tiles touches is in the memory.

    Args:
        folder (Path): Where the files are made.
        stem (str): The first part of their names.
        source (object): The image, with ``height`` and ``width``.
        classes (Sequence[str]): Names of the C classes; not used.
    """

    endings = ('_labels.tif', '_classes.tif')
    measured = False

    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None:
        self._path = folder / stem
        self._class_values = [np.zeros(1, np.uint8)]
        self._count = 0
        self._scratch = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._shape = (source.height, source.width)
        self._scratch.truncate(np.int32().nbytes * source.height * source.width)

    def write(self, cells: Cells, measurements: dict) -> None:
        """Add N cells; what was measured of them is not used."""
        order = np.argsort(-cells.scores, kind='stable')
        numbers = self._count + 1 + order
        image = self._map_scratch()
        for number, (window, x, y) in zip(numbers.tolist(), cells.select(order).windows(), strict=True):
            place = image[y : y + window.shape[0], x : x + window.shape[1]]
            free = window & (place == 0)
            if free.sum() >= MIN_VISIBLE * window.sum():
                place[free] = number
        self._class_values.append((cells.labels + 1).astype(np.uint8))
        self._count += len(cells)

    def __enter__(self) -> 'LabelImageWriter':
        return self

    def __exit__(self, error: type | None, *details: object) -> None:
        with self._scratch:
            if error is None:
                dtype = np.uint16 if self._count <= np.iinfo(np.uint16).max else np.int32
                self._write_tiff('labels', np.arange(self._count + 1, dtype=dtype))
                self._write_tiff('classes', np.concatenate(self._class_values))

    def _map_scratch(self) -> np.ndarray:
        """The labels drawn so far, (H, W) int32; a new mapping each time, for a dropped one frees the memory."""
        return np.memmap(self._scratch, np.int32, 'r+', shape=self._shape)

    def _write_tiff(self, name: str, values: np.ndarray) -> None:
        """Write the image with ``values`` (count + 1,) in place of the cells' numbers, part by part."""
        height, width = self._shape
        in_strips = height * width * values.itemsize <= MAX_STRIPPED
        side = STRIP if in_strips else TILE
        if in_strips and STRIP < height <= 2 * STRIP:
            side = height  # ImageJ 1.53 misreads the sizes of two strips that are so small that the tag holds them
        rows = (self._map_scratch()[y : y + side] for y in range(0, height, side))
        if in_strips:
            # encoded here, for tifffile takes an iterator of strips as bytes alone
            parts, layout = (zlib.compress(values[row].tobytes()) for row in rows), dict(rowsperstrip=side)
        else:
            parts = (values[row[:, x : x + side]] for row in rows for x in range(0, width, side))
            layout = dict(tile=(side, side))
        tifffile.imwrite(
            f'{self._path}_{name}.tif',
            parts,
            shape=self._shape,
            dtype=values.dtype,
            compression='zlib',
            photometric='minisblack',
            **layout,
        )
