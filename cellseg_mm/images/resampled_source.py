"""Images at another pixel size, by windows."""

import numpy as np
from scipy.sparse import csr_matrix

from .pixel_size import SAME_SIZE


class ResampledSource:
    """A source shown with more or fewer px, of which only what a window needs is read.

    Both images cover the same area, corner to corner: a point (x, y) of the source lies at (x * width / source.width,
    y * height / source.height). A pixel is the mean of the source over a box around its centre: the pixel's own square
    where the image shrinks (area averaging), a px of the source where it grows (linear interpolation). Windows are
    therefore the same as cut from the whole.

    Args:
        source (object): See :func:`open_image`. Of it and its ``levels`` the coarsest is read that is at least as fine
            as needed.
        factor (float): Px of the result to a px of the source, above 0.

    Attributes:
        level: The level that is read: 0 for the source itself, 1 for the first of its ``levels``, and so on.
    """

    levels = ()

    def __init__(self, source: object, factor: float) -> None:
        self.height, self.width = (max(1, round(side * factor)) for side in (source.height, source.width))
        self.pixel_size = source.pixel_size and source.pixel_size / factor
        self.note, self.name = source.note, getattr(source, 'name', '')
        steps = np.array([source.width / self.width, source.height / self.height])
        candidates = [(source, np.ones(2))]
        candidates += [(level, np.array(level.downsample)) for level in getattr(source, 'levels', ())]
        fine = [index for index, (_, downsample) in enumerate(candidates) if (downsample <= steps * SAME_SIZE).all()]
        self.level = max(fine, default=0)
        self._source, downsample = candidates[self.level]
        self._steps = (steps / downsample).tolist()

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """See :meth:`~cellseg_mm.images.ArraySource.read`."""
        left, columns = _box_means(x, width, self._steps[0], self._source.width)
        top, rows = _box_means(y, height, self._steps[1], self._source.height)
        window = self._source.read(left, top, columns.shape[1], rows.shape[1])
        # rows first: (height, W * 3), then columns of the transposed
        shrunk = rows @ window.reshape(len(window), -1).astype(np.float32)
        shrunk = shrunk.reshape(height, -1, 3).transpose(1, 0, 2).reshape(-1, height * 3)
        pixels = (columns @ shrunk).reshape(width, height, 3).transpose(1, 0, 2)
        return np.ascontiguousarray(np.rint(pixels).astype(np.uint8))


def whole_step(length: int, smaller: int) -> int:
    """The whole number by which a level's side was divided, left-over px dropped or filled up; 0 for another ratio."""
    step = max(1, round(length / smaller))
    return step if smaller in (length // step, -(-length // step)) else 0


def _box_means(first: int, count: int, step: float, length: int) -> tuple:
    """Weights of the source's px along one side for ``count`` px of the result from px ``first`` on.

    Args:
        first (int): Px of the result.
        count (int): N.
        step (float): Px of the source to a px of the result.
        length (int): Px of the source along the side; beyond its ends there are no px, and the weights of the others
            grow.

    Returns:
        tuple: First px of the source that is needed, and (N, number of px) sparse weights, rows of which sum to 1.
    """
    centers = (first + np.arange(count) + 0.5) * step
    reach = max(step, 1) / 2
    begin, end = (np.clip(centers + side * reach, 0, length) for side in (-1, 1))
    begin = np.minimum(begin, length - 1)  # rounded sizes may end a little outside
    end = np.maximum(end, begin + 1e-6)
    low, high = int(begin.min()), int(np.ceil(end.max()))
    columns = np.floor(begin).astype(int)[:, None] + np.arange(int(np.ceil(2 * reach)) + 1)
    overlap = np.minimum(columns + 1, end[:, None]) - np.maximum(columns, begin[:, None])
    overlap = np.where(columns < high, overlap.clip(0), 0)
    weights = (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)
    rows = np.repeat(np.arange(count), columns.shape[1])
    inside = overlap.ravel() > 0
    entries = weights.ravel()[inside], (rows[inside], (columns.ravel() - low)[inside])
    return low, csr_matrix(entries, shape=(count, high - low))
