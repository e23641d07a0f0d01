"""Whether teaching helped, on cells that were held out, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellseg_mm.evaluation.bootstrap import CONFIDENCE, percentile_interval
from cellseg_mm.utils import markdown_table

FEWEST_BLOCKS = 4  # pieces of tissue, for an interval
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Comparison:
    """Cells named before and after teaching.

    Attributes:
        cells: How many were held out, each once.
        before: Share that was named right before, 0..1; None if the detector did not know the classes.
        after: Share that is named right after.
        low: Lower end of the interval of ``after - before``, or of ``after``; None with too few pieces of tissue.
        high: Upper end.
        confusion: (K, K) int64, cells of class i named j after.
    """

    cells: int
    before: float | None
    after: float
    low: float | None
    high: float | None
    confusion: np.ndarray

    def in_words(self) -> str:
        """Some sentences for people who know cells and not statistics."""
        now = f'{100 * self.after:.0f} % of {self.cells:,} cells get the right class'
        kept_back = 'Each cell was kept back from the teaching when it was named.'
        more = 'Correct cells in more images'
        if self.before is None:
            if self.low is None:
                return f'{now}. {kept_back} {more} to learn how sure that is.'
            expected = f'In other tissue like this, expect {100 * self.low:.0f} to {100 * self.high:.0f} %.'
            return f'{now}. {kept_back} {expected}'
        now = f'{now} now, {100 * self.before:.0f} % before'
        if self.low is None:
            return f'Not enough to tell whether it helped: {now}. {kept_back} {more}.'
        interval = f'{CONFIDENCE} % interval from {_points(self.low)} to {_points(self.high)}'
        difference = f'That is {_points(self.after - self.before)} percentage points ({interval}).'
        if self.low > 0:
            return f'It helped: {now}. {difference} {kept_back}'
        if self.high < 0:
            return f'It did harm: {now}. {difference} {kept_back}'
        return f'Not enough to tell whether it helped: {now}. {difference} {kept_back} {more}.'

    def table(self, classes: Sequence) -> str:
        """The confusion as a Markdown table."""
        rows = [[name, *counts] for name, counts in zip(classes, self.confusion.tolist(), strict=True)]
        return markdown_table(['cells that are', *(f'named {name}' for name in classes)], rows)


def _points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f'{100 * share:+.0f}'.replace('-0', '0').replace('+0', '0')


def compare_classes(
    labels: np.ndarray,
    before: np.ndarray | None,
    after: np.ndarray,
    blocks: np.ndarray,
    num_classes: int,
) -> Comparison:
    """Compare the classes that cells were given with their true ones.

    The interval is a bootstrap over blocks, which are pieces of tissue, because cells beside each other look alike
    (percentile interval, as :func:`cellseg_mm.evaluation.bootstrap.paired_difference`).

    Args:
        labels (ndarray): (N,) int64, the true classes.
        before (ndarray | None): (N,) int64, the classes before, -1 for one that is not among the K; None if unknown.
        after (ndarray): (N,) int64, the classes after, each by a classifier that had not seen the cell.
        blocks (ndarray): (N,) int64, the block of each cell.
        num_classes (int): K.
    """
    right = (after == labels).astype(np.float64)
    old = None if before is None else (before == labels).astype(np.float64)
    gain = right if old is None else right - old
    index = np.unique(blocks, return_inverse=True)[1]
    sums, counts = np.bincount(index, gain), np.bincount(index)
    low = high = None
    if len(counts) >= FEWEST_BLOCKS:
        drawn = np.random.default_rng(0).integers(0, len(counts), (NUM_RESAMPLES, len(counts)))
        low, high = percentile_interval(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (labels, after), 1)
    return Comparison(
        len(labels), None if old is None else float(old.mean()), float(right.mean()), low, high, confusion
    )
