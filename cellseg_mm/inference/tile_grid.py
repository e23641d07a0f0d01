"""The tiles of a large image, and which of them are blank."""

from dataclasses import dataclass

import numpy as np

from cellseg_mm.utils import UserError

MAX_OVERLAP = 128  # px, of the default overlap, which is a third of a tile
WHITE = 215
SAMPLE_STEP = 4
MIN_DARK_SAMPLES = 4


@dataclass(frozen=True)
class TileGrid:
    """Overlapping tiles that cover an image in R rows and C columns, all of one size.

    Attributes:
        height: Of the image, in px.
        width: Of the image, in px.
        overlap: Px that neighbours share, at least.
        tile_height: Of each tile, in px.
        tile_width: Of each tile, in px.
        ys: (R,) int64, first row of pixels of each row of tiles.
        xs: (C,) int64, first column of pixels of each column of tiles.
    """

    height: int
    width: int
    overlap: int
    tile_height: int
    tile_width: int
    ys: np.ndarray
    xs: np.ndarray

    @classmethod
    def cover(cls, height: int, width: int, tile_size: int, overlap: int) -> 'TileGrid':
        """The fewest tiles of at most ``tile_size`` px a side that cover the image, as small as possible.

        All tiles lie within the image and have one size, and they share no more than the overlap needs: an image one
        pixel larger than a tile becomes two tiles of little more than half the size.

        Args:
            height (int): Of the image, in px.
            width (int): Of the image, in px.
            tile_size (int): Px.
            overlap (int): Px that neighbours share; at least one tile holds a smaller cell whole.

        Raises:
            UserError: If the overlap is below 32 px or above a third of the tile (a pixel would then be in more than
                four tiles), or the tile is above 32,768 px.
        """
        if not 32 <= overlap <= tile_size // 3 or tile_size > 2**15:
            raise UserError(
                f'tiles of {tile_size} px with an overlap of {overlap} px: the overlap must be 32 px to a third of the '
                'tile, and the tile at most 32768 px'
            )
        (ys, tile_height), (xs, tile_width) = (_cover(length, tile_size, overlap) for length in (height, width))
        return cls(height, width, overlap, tile_height, tile_width, ys, xs)

    def __len__(self) -> int:
        return len(self.ys) * len(self.xs)

    def along(self, axis: int) -> tuple:
        """Starts and size of the tiles along x (0) or y (1)."""
        return ((self.xs, self.tile_width), (self.ys, self.tile_height))[axis]

    def window(self, index: int) -> tuple:
        """x, y, width and height of a tile in px; tiles are numbered row by row."""
        row, col = divmod(index, len(self.xs))
        return int(self.xs[col]), int(self.ys[row]), self.tile_width, self.tile_height


def most_inside(windows: list, boxes: np.ndarray) -> np.ndarray:
    """For each box, the window whose border is farthest from the box; it may be negative where a box is cut.

    Args:
        windows (list): W of x, y, width and height in px.
        boxes (ndarray): (N, 4) x1, y1, x2, y2 in px.

    Returns:
        ndarray: (N,) int64 indices; the first of equal ones.

    Examples:
        >>> most_inside([(0, 0, 60, 50), (40, 0, 60, 50)], np.array([[38, 10, 44, 20], [52, 10, 58, 20]])).tolist()
        [0, 1]
    """
    corners = np.array([(x, y, x + width, y + height) for x, y, width, height in windows])
    room = (boxes[:, None] - corners) * [1, 1, -1, -1]
    return room.min(axis=2).argmax(axis=1)


def default_overlap(tile_size: int) -> int:
    """Px that tiles share where the user gives no number: a third of a tile, at most :data:`MAX_OVERLAP`."""
    return min(MAX_OVERLAP, tile_size // 3)


def _cover(length: int, tile_size: int, overlap: int) -> tuple:
    """Starts and size of the tiles along one side."""
    count = max(1, -(-(length - overlap) // (tile_size - overlap)))
    size = -(-(length + (count - 1) * overlap) // count)
    return np.arange(count) * (length - size) // max(count - 1, 1), size


def is_blank(image: np.ndarray) -> bool:
    """Whether an image shows only bright, unstained background: glass.

    Among every fourth pixel of every fourth row, fewer than four must have a darkest channel below 215 of 255. Stain
    absorbs light in at least one channel, so a stained nucleus 10 px across is never missed, however empty the image is
    around it. Images with a darker or tinted background, such as fluorescence or the black fill of a scanner, are never
    blank; that costs time but no cell. Cells as bright as glass, as in phase contrast, would be missed: switch the test
    off there.

    Args:
        image (ndarray): (H, W, 3) uint8 RGB.
    """
    return np.count_nonzero(image[::SAMPLE_STEP, ::SAMPLE_STEP].min(axis=2, initial=255) < WHITE) < MIN_DARK_SAMPLES
