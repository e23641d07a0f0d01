"""Where the tiles of a large image lie, and which of them hold nothing."""

from dataclasses import dataclass

import numpy as np

from cellseg_mm.utils import UserError

WHITE = 215
SAMPLE_STEP = 4
MIN_DARK_SAMPLES = 4


@dataclass(frozen=True)
class TileGrid:
    """Overlapping tiles that cover an image in R rows and C columns, all of one size.

    Attributes:
        height: Of the image, in px.
        width: Likewise.
        overlap: Px that neighbours have in common at least.
        tile_height: Of each tile, in px.
        tile_width: Likewise.
        ys: (R,) int64, the tiles' first rows of pixels.
        xs: (C,) int64, their first columns of pixels.
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
        """As few tiles of at most ``tile_size`` px a side as cover the image, and of those the smallest.

        No tile reaches beyond the image, none is smaller than the others, and no more is looked at twice than the
        overlap asks for: an image one pixel larger than a tile becomes two of little more than half the size.

        Args:
            height (int): Of the image, in px.
            width (int): Likewise.
            tile_size (int): Px.
            overlap (int): Px that neighbours share; a cell smaller than this lies whole in one tile at least.

        Raises:
            UserError: If the overlap is below 32 px or above a third of the tile, where a pixel would be in more than
                four tiles, or the tile is above 32,768 px.
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
        """The tiles' starts and their size along x (0) or y (1)."""
        return ((self.xs, self.tile_width), (self.ys, self.tile_height))[axis]

    def window(self, index: int) -> tuple:
        """x, y, width and height in px of a tile; they are numbered row by row."""
        row, col = divmod(index, len(self.xs))
        return int(self.xs[col]), int(self.ys[row]), self.tile_width, self.tile_height


def _cover(length: int, tile_size: int, overlap: int) -> tuple:
    """Along one side: the tiles' starts, and their size."""
    count = max(1, -(-(length - overlap) // (tile_size - overlap)))
    size = -(-(length + (count - 1) * overlap) // count)
    return np.arange(count) * (length - size) // max(count - 1, 1), size


def is_blank(image: np.ndarray) -> bool:
    """Whether an image shows nothing but bright, unstained background: glass.

    Of every fourth pixel of every fourth row it counts those whose darkest channel is below 215 of 255, and says blank
    if there are fewer than four. Stain absorbs light in one channel at least, so a stained nucleus of 10 px across or
    more is never overlooked, however empty the image is around it. Where the background is darker or tinted, as it is
    in fluorescence or where a scanner fills with black, nothing is blank; that costs time and loses no cell. Cells
    that are as bright as glass, as in phase contrast, would be overlooked: switch the test off there.

    Args:
        image (ndarray): (H, W, 3) uint8 RGB.
    """
    return np.count_nonzero(image[::SAMPLE_STEP, ::SAMPLE_STEP].min(axis=2, initial=255) < WHITE) < MIN_DARK_SAMPLES
