"""COCO run-length codes of many instances at once, without a bitmap of each.

A code lists the lengths of alternating runs of background and instance over the image read **column by column**; a
pixel's place in that order is ``x * H + y``. The compressed text form is that of pycocotools (``rleToString`` in its
``maskApi.c``): from the fourth on, a length is stored as its difference to the one two before, in groups of five bits,
lowest first, each plus 48 as a character; bit 5 marks that more groups follow, bit 4 of the last is the sign.

An L of three pixels and a single pixel, as masks, as codes and as runs:

    >>> import numpy as np
    >>> from pycocotools import mask as mask_utils
    >>> masks = np.array([[[1, 0, 0], [1, 1, 0]], [[0, 0, 1], [0, 0, 0]]], np.uint8)
    >>> codes = mask_utils.encode(np.asfortranarray(masks.transpose(1, 2, 0)))
    >>> [code['counts'] for code in codes]  # of 0 2 1 1 2, the last two as 1 - 2 and 2 - 1; and of 4 1 1
    [b'021O1', b'411']
    >>> decode_runs(codes)
    Runs(owner=array([0, 0, 1]), start=array([0, 3, 4]), length=array([2, 1, 1]))
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as mask_utils


class Runs(NamedTuple):
    """Runs of instances in an image, ordered by instance and then by place.

    Two instances in an image of 2 rows and 3 columns, the places of which are 0 2 4 and 1 3 5:

    >>> runs = Runs(np.array([0, 0, 1]), np.array([0, 3, 4]), np.array([2, 1, 1]))
    >>> runs.areas(2)
    array([3, 1])
    >>> runs.boxes(2, height=2)
    array([[0, 0, 2, 2],
           [2, 0, 3, 1]])
    >>> runs.places()
    array([0, 1, 3, 4])
    >>> runs.select(np.array([1]), 2)
    Runs(owner=array([0]), start=array([4]), length=array([1]))
    >>> Runs(np.array([0]), np.array([1]), np.array([2])).split_at_columns(height=2)  # from (0, 1) to (1, 0)
    Runs(owner=array([0, 0]), start=array([1, 2]), length=array([1, 1]))

    Attributes:
        owner: (R,) int64, index of the instance.
        start: (R,) int64, place of the first pixel.
        length: (R,) int64, at least 1.
    """

    owner: np.ndarray
    start: np.ndarray
    length: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence, counts: Sequence) -> 'Runs':
        """The runs of several parts of one image; the instances of a part follow those of the parts before it.

        Args:
            parts (Sequence[Runs]): K parts.
            counts (Sequence[int]): The number of instances of each.
        """
        offsets = np.cumsum(counts) - counts
        none = cls(*np.zeros((3, 0), np.int64))
        moved = (part._replace(owner=part.owner + offset) for part, offset in zip(parts, offsets, strict=True))
        return cls(*map(np.concatenate, zip(none, *moved, strict=True)))

    def areas(self, num_instances: int) -> np.ndarray:
        """(N,) int64 areas in px; 0 for an instance without a pixel."""
        return np.bincount(self.owner, self.length, num_instances).astype(np.int64)

    def centroids(self, num_instances: int, height: int) -> np.ndarray:
        """(N, 2) float64 means of the pixels' (x, y); nan for an instance without a pixel.

        Args:
            num_instances (int): N.
            height (int): Of the image in px. A run over the end of a column is split there.
        """
        owner, start, length = self.split_at_columns(height)
        area = np.bincount(owner, length, num_instances)
        x_sum = np.bincount(owner, length * (start // height), num_instances)
        y_sum = np.bincount(owner, length * (start % height + (length - 1) / 2), num_instances)
        with np.errstate(invalid='ignore'):
            return np.stack([x_sum / area, y_sum / area], axis=1)

    def resize(self, old: tuple, new: tuple) -> 'Runs':
        """The runs of the same instances in an image of another size, which shows the same area corner to corner.

        A pixel belongs to an instance if its centre lies in one of the instance's pixels.

        Args:
            old (tuple): (height, width) in px.
            new (tuple): (height, width) in px.

        >>> Runs(np.array([0]), np.array([1]), np.array([2])).resize((2, 2), (4, 2))  # of (0, 1) and (1, 0)
        Runs(owner=array([0, 0]), start=array([2, 4]), length=array([2, 2]))
        """
        owner, start, length = self.split_at_columns(old[0])
        x, y = np.divmod(start, old[0])

        def first_behind(edges: np.ndarray, axis: int) -> np.ndarray:
            """The first pixel whose centre is not before an edge of the old pixels: ceil(edge * new / old - 1/2)."""
            return -((old[axis] - 2 * edges * new[axis]) // (2 * old[axis]))

        left, right = first_behind(x, 1), first_behind(x + 1, 1)
        top, bottom = first_behind(y, 0), first_behind(y + length, 0)
        copies = np.where(top < bottom, right - left, 0)  # columns
        index, column = np.repeat(np.arange(len(x)), copies), _ranges(left, copies)
        order = np.lexsort((top[index], column, owner[index]))
        index, column = index[order], column[order]
        return Runs(owner[index], column * new[0] + top[index], (bottom - top)[index])

    def boxes(self, num_instances: int, height: int) -> np.ndarray:
        """(N, 4) int64 tight boxes [x1, y1, x2, y2) in px; zeros for an instance without a pixel.

        Args:
            num_instances (int): N.
            height (int): Of the image in px.
        """
        owner, start, length = self.split_at_columns(height)
        boxes = np.zeros((num_instances, 4), np.int64)
        if len(owner):
            firsts = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
            col, row = np.divmod(start, height)
            boxes[owner[firsts]] = np.stack(
                [
                    np.minimum.reduceat(col, firsts),
                    np.minimum.reduceat(row, firsts),
                    np.maximum.reduceat(col, firsts) + 1,
                    np.maximum.reduceat(row + length, firsts),
                ],
                axis=1,
            )
        return boxes

    def select(self, index: np.ndarray, num_instances: int) -> 'Runs':
        """The runs of some instances, which become instances 0, 1, ... in that order.

        Args:
            index (ndarray): (K,) instances.
            num_instances (int): N.
        """
        bounds = np.searchsorted(self.owner, np.arange(num_instances + 1))
        counts = np.diff(bounds)[index]
        chosen = _ranges(bounds[:-1][index], counts)
        return Runs(np.repeat(np.arange(len(index)), counts), self.start[chosen], self.length[chosen])

    def places(self) -> np.ndarray:
        """(P,) int64, the places of all pixels, in the order of the runs."""
        return _ranges(self.start, self.length)

    def places_of_each(self, num_instances: int) -> Iterator:
        """The places of the pixels of each of N instances in turn, (P,) int64. Memory is that of one instance."""
        bounds = np.searchsorted(self.owner, np.arange(num_instances + 1)).tolist()
        for first, last in itertools.pairwise(bounds):
            yield Runs(None, self.start[first:last], self.length[first:last]).places()

    def windows(self, num_instances: int, height: int) -> Iterator:
        """The mask of each of N instances in turn in its tight box, (h, w) bool, and x and y of its upper left pixel.

        Memory is that of one box at a time. For an instance without a pixel, h and w are 0.

        Args:
            num_instances (int): N.
            height (int): Of the image in px.
        """
        boxes = self.boxes(num_instances, height).tolist()
        for (x1, y1, x2, y2), places in zip(boxes, self.places_of_each(num_instances), strict=True):
            cols, rows = np.divmod(places, height)
            window = np.zeros((y2 - y1, x2 - x1), bool)
            window[rows - y1, cols - x1] = True
            yield window, x1, y1

    def move(self, x: int, y: int, height: int, new_height: int) -> 'Runs':
        """The runs of a window's instances in the image.

        Args:
            x (int): First column of the window in the image.
            y (int): First row of the window in the image.
            height (int): Of the window in px.
            new_height (int): Of the image in px.

        >>> Runs(np.array([0]), np.array([1]), np.array([2])).move(1, 0, height=2, new_height=4)  # (0, 1) and (1, 0)
        Runs(owner=array([0, 0]), start=array([5, 8]), length=array([1, 1]))
        """
        owner, start, length = self.split_at_columns(height)
        col, row = np.divmod(start, height)
        return Runs(owner, (col + x) * new_height + row + y, length)

    def split_at_columns(self, height: int) -> 'Runs':
        """The same pixels in runs that stay within a column of an image of ``height`` px."""
        first, last = self.start // height, (self.start + self.length - 1) // height
        pieces = last - first + 1
        if (pieces == 1).all():
            return self
        index, column = np.repeat(np.arange(len(pieces)), pieces), _ranges(first, pieces)
        start = np.maximum(self.start[index], column * height)
        end = np.minimum(self.start[index] + self.length[index], (column + 1) * height)
        return Runs(self.owner[index], start, end - start)


def to_code(segmentation: list | dict, height: int, width: int) -> dict:
    """A COCO segmentation of any kind as a compressed run-length code.

    Args:
        segmentation (list | dict): A list of polygons [x1, y1, x2, y2, ...], of which the union counts, or a code,
            compressed or not.
        height (int): Of the image in px.
        width (int): Of the image in px.
    """
    if isinstance(segmentation, list):
        return mask_utils.merge(mask_utils.frPyObjects(segmentation, height, width))
    if isinstance(segmentation['counts'], list):
        return mask_utils.frPyObjects(segmentation, height, width)
    return segmentation


def decode_runs(codes: list) -> Runs:
    """The runs of N instances from their compressed codes.

    Args:
        codes (list[dict]): N times ``{'size': [H, W], 'counts': str | bytes}``, all of one size.

    Raises:
        ValueError: If a code is broken: bytes outside the alphabet, a length below 0, or lengths that do not add up to
            H * W. The message names the index.
    """
    texts = [code['counts'] for code in codes]
    texts = [text.encode('utf-8', 'surrogatepass') if isinstance(text, str) else text for text in texts]
    chars = np.frombuffer(b''.join(texts), np.uint8).astype(np.int64) - 48
    text_sizes = np.array([len(text) for text in texts], np.int64)
    code_of_char = np.repeat(np.arange(len(codes)), text_sizes)
    is_last = (chars & 32) == 0
    wrong = code_of_char[(chars < 0) | (chars > 63)]
    if len(wrong):
        raise ValueError(f'code {wrong[0]}: a character outside the alphabet of run-length codes')
    filled = np.flatnonzero(text_sizes)
    torn = filled[~is_last[np.cumsum(text_sizes)[filled] - 1]]
    if len(torn):
        raise ValueError(f'code {torn[0]}: ends within a number')
    ends = np.flatnonzero(is_last)
    owner = code_of_char[ends]
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(ends)]

    # the numbers, from their groups of five bits; no image has a length of more than 12 groups
    sizes = ends - starts + 1
    if (sizes > 12).any():
        raise ValueError(f'code {owner[sizes > 12][0]}: a length beyond any image')
    group = np.arange(len(chars)) - np.repeat(starts, sizes)
    numbers = np.add.reduceat((chars & 31) << (5 * group), starts) if len(starts) else np.zeros(0, np.int64)
    numbers -= np.where(chars[ends] & 16, 1 << (5 * sizes), 0)

    # differences to lengths: running sums over the even and over the odd numbers of a code, without the first number
    first = np.searchsorted(owner, np.arange(len(codes)))
    rank = np.arange(len(owner)) - first[owner]
    lengths = numbers.copy()
    for chosen in (rank % 2 == 1, (rank % 2 == 0) & (rank > 0)):
        lengths[chosen] = _cumulative(numbers[chosen], owner[chosen])
    if (lengths < 0).any():
        raise ValueError(f'code {owner[lengths < 0][0]}: a run of negative length')
    covered = np.bincount(owner, lengths, len(codes)).astype(np.int64)
    pixels = np.array([code['size'][0] * code['size'][1] for code in codes], np.int64)
    if (covered != pixels).any():
        index = np.flatnonzero(covered != pixels)[0]
        raise ValueError(f'code {index}: runs over {covered[index]} px in an image of {pixels[index]}')
    run_starts = _cumulative(lengths, owner) - lengths
    inside = (rank % 2 == 1) & (lengths > 0)
    return Runs(owner[inside], run_starts[inside], lengths[inside])


def decode_window(code: dict) -> tuple:
    """The part of a mask in its tight box, without a bitmap of the image's size.

    Args:
        code (dict): ``{'size': [H, W], 'counts': str | bytes}``.

    Returns:
        tuple: (h, w) bool, and x and y of its upper left pixel in the image. For a mask without a pixel, h and w are 0.

    >>> decode_window({'size': [2, 3], 'counts': '312'})  # 3 px of background, then 1 px, then 2 of background
    (array([[ True]]), 1, 1)
    """
    return next(decode_runs([code]).windows(1, code['size'][0]))


def encode_runs(runs: Runs, num_instances: int, height: int, width: int) -> list:
    """COCO run-length codes of N instances, the inverse of :func:`decode_runs`.

    Args:
        runs (Runs): Of N instances; runs that touch are joined.
        num_instances (int): N.
        height (int): Of the image in px.
        width (int): Of the image in px.

    Returns:
        list[dict]: N times ``{'size': [H, W], 'counts': str}``.

    >>> encode_runs(Runs(np.array([1]), np.array([3]), np.array([1])), 2, 2, 3)  # instance 0 has no pixel
    [{'size': [2, 3], 'counts': '6'}, {'size': [2, 3], 'counts': '312'}]
    """
    owner, start, end = runs.owner, runs.start, runs.start + runs.length
    joined = (owner[1:] == owner[:-1]) & (start[1:] == end[:-1])
    owner, start = (values[np.append(True, ~joined)[: len(owner)]] for values in (owner, start))
    end = end[np.append(~joined, True)[: len(end)]]
    # gap before, length, gap before, length, ..., and a gap after if there is one
    edges = np.stack([start, end], axis=1).ravel()
    counts = np.diff(edges, prepend=0)
    bounds = np.searchsorted(owner, np.arange(num_instances + 1)) * 2
    filled = np.flatnonzero(np.diff(bounds))
    counts[bounds[filled]] = edges[bounds[filled]]  # the first of each instance
    covered = np.zeros(num_instances, np.int64)
    covered[filled] = edges[bounds[filled + 1] - 1]
    counts, pixels = counts.tolist(), height * width
    codes = []
    for (first, last), done in zip(itertools.pairwise(bounds.tolist()), covered.tolist(), strict=True):
        own = counts[first:last] if done == pixels else [*counts[first:last], pixels - done]
        code = mask_utils.frPyObjects({'size': [height, width], 'counts': own}, height, width)
        codes.append({'size': [height, width], 'counts': code['counts'].decode()})
    return codes


def paint_instances(runs: Runs, num_instances: int, height: int, width: int, min_visible: float = 0.5) -> np.ndarray:
    """Lay instances that may overlap into one id map: earlier instances have precedence.

    An instance of which less than ``min_visible`` is left is dropped, as in the merging of Kirillov et al., Panoptic
    Segmentation, CVPR 2019, section 4. The pixels of an instance depend only on those before it, so the map of the
    first k instances is the map of all without the ids above k.

    Args:
        runs (Runs): Of N instances, the highest score first.
        num_instances (int): N.
        height (int): Of the image in px.
        width (int): Of the image in px.
        min_visible (float): Share of its own area, 0..1.

    Returns:
        ndarray: (H, W) int32; instance k of the input is k + 1, 0 is background.

    The second instance keeps 1 of its 2 px, the third none:

    >>> runs = Runs(np.array([0, 1, 2]), np.array([0, 2, 0]), np.array([3, 2, 1]))
    >>> paint_instances(runs, 3, 2, 3, min_visible=0.5)
    array([[1, 1, 0],
           [1, 2, 0]], dtype=int32)
    """
    flat = np.zeros(height * width, np.int32)
    paint_pixels(flat, runs.places_of_each(num_instances), itertools.count(1), min_visible)
    return flat.reshape(width, height).T


def paint_pixels(flat: np.ndarray, pixels_of_each: Iterable, ids: Iterable, min_visible: float = 0.5) -> None:
    """Paint instances into a flat id map, one after another; what is painted already has precedence.

    Memory is that of one instance, because the pixels of huge masks together could fill it.

    Args:
        flat (ndarray): (H * W,) int32, changed in place; the pixels may be in any order.
        pixels_of_each (Iterable[ndarray]): For each instance its (P,) int64 indices in ``flat``.
        ids (Iterable[int]): For each instance its id, at least 1.
        min_visible (float): An instance with a smaller share of free pixels is dropped, see :func:`paint_instances`.
    """
    for number, pixels in zip(ids, pixels_of_each, strict=False):
        free = pixels[flat[pixels] == 0]
        if len(free) >= min_visible * len(pixels):
            flat[free] = number


def pixels_before(runs: Runs, places: np.ndarray) -> np.ndarray:
    """How many pixels of runs lie before each of P places, (P,) int64.

    Args:
        runs (Runs): In the order of their places, without a common pixel; their owners do not count.
        places (ndarray): (P,) int64, from 0 on.

    >>> pixels_before(Runs(None, np.array([2, 7]), np.array([3, 1])), np.array([1, 4, 9]))
    array([0, 2, 4])
    """
    # an empty run in front, so that no place lies before the first
    start, length = (np.append(0, part) for part in (runs.start, runs.length))
    before = np.cumsum(length) - length
    run = np.searchsorted(start, places, side='right') - 1
    return before[run] + np.minimum(places - start[run], length[run])


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """So many numbers from each start on.

    >>> _ranges(np.array([5, 0, 8]), np.array([2, 0, 3]))
    array([ 5,  6,  8,  9, 10])
    """
    first = np.repeat(starts - (np.cumsum(counts) - counts), counts)
    return first + np.arange(len(first))


def _cumulative(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Running sums that start again with each owner; owners are in rising order.

    >>> _cumulative(np.array([1, 2, 3, 4]), np.array([0, 0, 1, 1]))
    array([1, 3, 3, 7])
    """
    sums = np.cumsum(values)
    is_first = np.ones(len(owner), bool)
    is_first[1:] = owner[1:] != owner[:-1]
    firsts = np.flatnonzero(is_first)
    before = sums[firsts] - values[firsts]
    return sums - before[np.cumsum(is_first) - 1] if len(firsts) else sums
