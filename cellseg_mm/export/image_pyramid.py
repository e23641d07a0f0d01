"""An image as a pyramid of JPEG tiles, read once, strip by strip."""

from pathlib import Path

import cv2
import numpy as np

TILE = 512  # px a side
QUALITY = 80  # of JPEG


def write_pyramid(source: object, folder: Path) -> list:
    """Write ``folder/LEVEL/COLUMN_ROW.jpg``; each level halves the one before, level 0 has the image's own px.

    Memory holds two strips of each level, whose height is that of a tile.

    Args:
        source (object): See :func:`open_image`.
        folder (Path): Made if absent.

    Returns:
        list[tuple]: (width, height) in px of each level, down to one tile.
    """
    sizes = [(source.width, source.height)]
    while max(sizes[-1]) > TILE:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    levels = [_Level(folder / str(number)) for number in range(len(sizes))]
    for y in range(0, source.height, TILE):
        height, strips = min(TILE, source.height - y), range(0, source.width, TILE)
        parts = [source.read(x, y, min(TILE, source.width - x), height) for x in strips]
        _add(levels, np.concatenate(parts, axis=1), is_last=y + height == source.height)
    return sizes


class _Level:
    """The tiles of a level, and the half strip that waits for its other half.

    Args:
        folder (Path): Of the tiles.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder, self.row, self.waiting = folder, 0, None

    def write(self, strip: np.ndarray) -> None:
        """Write one row of tiles from (h, W, 3) uint8 RGB, h at most :data:`TILE`."""
        for column, x in enumerate(range(0, strip.shape[1], TILE)):
            tile = np.ascontiguousarray(strip[:, x : x + TILE, ::-1])
            encoded = cv2.imencode('.jpg', tile, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
            (self.folder / f'{column}_{self.row}.jpg').write_bytes(encoded.tobytes())
        self.row += 1


def _add(levels: list, strip: np.ndarray, is_last: bool) -> None:
    """Add a strip of the first level, and what it becomes to the next ones."""
    level, *coarser = levels
    level.write(strip)
    if not coarser:
        return
    height, width = strip.shape[:2]
    half = cv2.resize(strip, (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA)
    if coarser[0].waiting is not None:
        half = np.concatenate([coarser[0].waiting, half])
        coarser[0].waiting = None
    elif not is_last:
        coarser[0].waiting = half
        return
    _add(coarser, half, is_last)
