"""The cells of one image as plain arrays. Inference makes them, merging passes them on, and every export takes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .run_length import Runs, decode_runs, encode_runs, paint_instances, pixels_before

# Of Cells.shared_areas, so that memory does not grow with the image.
PAIRS_AT_A_TIME = 4096


@dataclass(frozen=True)
class Cells:
    """N instances of an image, or a part of them in a stream.

    Attributes:
        runs: The pixels of the N instances in the whole image (place = x * height + y), see :class:`Runs`.
        labels: (N,) int64, class indices from 0.
        scores: (N,) float32, 0..1.
        height: Of the whole image in px.
        width: Of the whole image in px.
    """

    runs: Runs
    labels: np.ndarray
    scores: np.ndarray
    height: int
    width: int

    @classmethod
    def from_codes(cls, codes: list, labels: Sequence, scores: Sequence, height: int, width: int) -> 'Cells':
        """From N COCO run-length codes of ``height`` x ``width`` px."""
        return cls(decode_runs(codes), np.asarray(labels, np.int64), np.asarray(scores, np.float32), height, width)

    @classmethod
    def concatenate(cls, parts: Sequence) -> 'Cells':
        """The cells of several parts of one image, in their order; at least one part."""
        runs = Runs.concatenate([part.runs for part in parts], [len(part) for part in parts])
        labels, scores = (np.concatenate([getattr(part, name) for part in parts]) for name in ('labels', 'scores'))
        return cls(runs, labels, scores, parts[0].height, parts[0].width)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, index: np.ndarray) -> 'Cells':
        """Some of the cells, in the order of ``index``: (N,) bool, or (K,) indices."""
        index = np.arange(len(self))[index]
        return Cells(
            self.runs.select(index, len(self)), self.labels[index], self.scores[index], self.height, self.width
        )

    def resize(self, height: int, width: int) -> 'Cells':
        """The same cells in an image of ``height`` x ``width`` px that shows the same area, see :meth:`Runs.resize`.

        A cell that covers no pixel's centre there has no pixel.
        """
        runs = self.runs.resize((self.height, self.width), (height, width))
        return Cells(runs, self.labels, self.scores, height, width)

    def place(self, x: int, y: int, height: int, width: int) -> 'Cells':
        """The cells of a window in the image, see :meth:`Runs.move`.

        Args:
            x (int): First column of the window in the image.
            y (int): First row of the window in the image.
            height (int): Of the image in px.
            width (int): Of the image in px.
        """
        return Cells(self.runs.move(x, y, self.height, height), self.labels, self.scores, height, width)

    def codes(self) -> list:
        """N COCO run-length codes, ``{'size': [H, W], 'counts': str}``."""
        return encode_runs(self.runs, len(self), self.height, self.width)

    def boxes(self) -> np.ndarray:
        """(N, 4) int64 tight boxes [x1, y1, x2, y2) in px; zeros for a cell without a pixel."""
        return self.runs.boxes(len(self), self.height)

    def areas(self) -> np.ndarray:
        """(N,) int64 areas in px; 0 for a cell without a pixel."""
        return self.runs.areas(len(self))

    def centroids(self) -> np.ndarray:
        """(N, 2) float64 (x, y) in px from the image's upper left corner; nan for a cell without a pixel.

        The centre of the first pixel is (0.5, 0.5).
        """
        return self.runs.centroids(len(self), self.height) + 0.5

    def windows(self) -> Iterator:
        """The mask of each cell in turn in its tight box, see :meth:`Runs.windows`."""
        return self.runs.windows(len(self), self.height)

    def shared_areas(self, others: 'Cells', pairs: np.ndarray) -> np.ndarray:
        """Areas that pairs of a cell and another cell of the same image share.

        Memory is that of :data:`PAIRS_AT_A_TIME` pairs.

        Args:
            others (Cells): M cells; may be the same.
            pairs (ndarray): (P, 2) int64, indices of these cells and of the others.

        Returns:
            ndarray: (P,) int64 px.
        """
        shared, size = np.zeros(len(pairs), np.int64), self.height * self.width
        for begin in range(0, len(pairs), PAIRS_AT_A_TIME):
            part = slice(begin, begin + PAIRS_AT_A_TIME)
            first, second = self.runs.select(pairs[part, 0], len(self)), others.runs.select(pairs[part, 1], len(others))
            # pair by pair in a row, as if each had an image of its own
            own, other = (runs._replace(start=runs.start + runs.owner * size) for runs in (first, second))
            inside = pixels_before(other, own.start + own.length) - pixels_before(other, own.start)
            shared[part] = np.bincount(own.owner, inside, len(shared[part]))
        return shared

    def instance_map(self, min_visible: float = 0.5) -> np.ndarray:
        """(H, W) int32 id map with cell k as k + 1. Where cells overlap, the pixel goes to the higher score.

        A cell of which less than ``min_visible`` is left is dropped, see :func:`paint_instances`.
        """
        order = np.argsort(-self.scores, kind='stable')
        ranked = paint_instances(self.runs.select(order, len(self)), len(self), self.height, self.width, min_visible)
        return np.append(0, order + 1).astype(np.int32)[ranked]
