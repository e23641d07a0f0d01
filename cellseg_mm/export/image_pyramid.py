"""An image as a pyramid of JPEG tiles, read once, tile by tile."""

from pathlib import Path

import cv2
import numpy as np

TILE = 512  # px a side
QUALITY = 80  # of JPEG


def write_pyramid(source: object, folder: Path) -> list:
    """Write ``folder/LEVEL/COLUMN_ROW.jpg``; each level halves the one before, level 0 has the image's own px.

    Where a side is odd, its last px counts twice. Memory holds a few tiles of each level.

    Args:
        source (object): See :func:`open_image`.
        folder (Path): Made if absent.

    Returns:
        list[tuple]: (width, height) in px of each level, down to one tile.
    """
    sizes = [(source.width, source.height)]
    while max(sizes[-1]) > TILE:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    for level in range(len(sizes)):
        (folder / str(level)).mkdir(parents=True)
    _write_tile(source, folder, sizes, len(sizes) - 1, 0, 0)
    return sizes


def _write_tile(source: object, folder: Path, sizes: list, level: int, column: int, row: int) -> np.ndarray:
    """Write a tile and all finer ones of its place; its (h, w, 3) uint8 RGB, h and w at most :data:`TILE`."""
    if level == 0:
        x, y = column * TILE, row * TILE
        tile = source.read(x, y, min(TILE, source.width - x), min(TILE, source.height - y))
    else:
        columns, rows = (
            [index for index in (2 * place, 2 * place + 1) if index * TILE < side]
            for place, side in zip((column, row), sizes[level - 1], strict=True)
        )
        finer = [
            np.concatenate([_write_tile(source, folder, sizes, level - 1, x, y) for x in columns], axis=1) for y in rows
        ]
        tile = _halve(np.concatenate(finer))
    encoded = cv2.imencode('.jpg', tile[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    (folder / f'{level}/{column}_{row}.jpg').write_bytes(encoded.tobytes())
    return tile


def _halve(image: np.ndarray) -> np.ndarray:
    """The means of 2 x 2 px."""
    height, width = image.shape[:2]
    even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
