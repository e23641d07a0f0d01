"""Overlaps of boxes with priors, without computing those that must be zero.

A cell overlaps about one anchor in a hundred. So priors are sorted such that neighbours of similar size follow one
another, and cut into blocks. A box is compared only with the priors of blocks whose bounding box it touches.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

# Priors a block, found by timing 600 cells on 262,000 anchors: fewer cost more blocks, more cost more comparisons.
BLOCK = 32
# Pairs compared together, about 100 bytes each.
MAX_PAIRS = 2**20


def overlapping_pairs(boxes: Tensor, priors: Tensor, overlaps: Callable = bbox_overlaps) -> Iterator:
    """All pairs of a box and a prior whose overlap is above zero, some boxes at a time.

    Memory depends on :data:`MAX_PAIRS` and the number of priors, never on boxes x priors.

    Args:
        boxes (Tensor): (G, 4) float [x1, y1, x2, y2], finite.
        priors (Tensor): (N, 4) float [x1, y1, x2, y2], finite, in any order.
        overlaps (Callable): Takes (K, 1, 4) boxes and (K, B, 4) priors, and returns their (K, 1, B) overlaps, 0 for
            those that do not intersect.

    Yields:
        tuple: (P,) int64 indices of boxes, (P,) int64 indices of priors, (P,) their overlaps. All pairs of a box come
        together, and boxes come in their order.

    Examples:
        The first prior equals the first box and covers half of the second one, the last prior touches neither:

        >>> boxes = torch.tensor([[0.0, 0, 8, 8], [4, 0, 12, 8]])
        >>> priors = torch.tensor([[0.0, 0, 8, 8], [4, 0, 8, 8], [40, 40, 48, 48]])
        >>> for box, prior, overlap in overlapping_pairs(boxes, priors):
        ...     print(sorted(zip(box.tolist(), prior.tolist(), overlap.tolist(), strict=True)))
        [(0, 0, 1.0), (0, 1, 0.5), (1, 0, 0.3333333432674408), (1, 1, 0.5)]
    """
    order = spatial_order(priors)
    nowhere = priors.new_tensor([[torch.inf, torch.inf, -torch.inf, -torch.inf]])
    blocks = torch.cat([priors[order], nowhere.expand(-len(priors) % BLOCK, 4)]).view(-1, BLOCK, 4)
    low, high = blocks[..., :2].amin(dim=1), blocks[..., 2:].amax(dim=1)
    start = 0
    for rows in boxes.split(max(MAX_PAIRS // max(len(blocks), 1), 1)):
        touches = ((rows[:, None, :2] < high) & (rows[:, None, 2:] > low)).all(dim=2)
        ends = BLOCK * touches.sum(dim=1).cumsum(dim=0)
        sizes = torch.unique_consecutive(ends // MAX_PAIRS, return_counts=True)[1].tolist()
        for part, touched in zip(rows.split(sizes), touches.split(sizes), strict=True):
            box, block = touched.nonzero(as_tuple=True)
            values = overlaps(part[box, None], blocks[block]).squeeze(1)
            pair, place = (values > 0).nonzero(as_tuple=True)
            yield start + box[pair], order[BLOCK * block[pair] + place], values[pair, place]
            start += len(part)


def spatial_order(boxes: Tensor) -> Tensor:
    """An order in which neighbouring boxes of similar size follow one another.

    Boxes are sorted by the power of two that holds their longer side, then by row and column of their centre on a grid
    of that width.

    Args:
        boxes (Tensor): (N, 4) float [x1, y1, x2, y2].

    Returns:
        Tensor: (N,) int64 indices.

    Examples:
        A box of 8 px comes before those of 16 px, which come row by row:

        >>> boxes = torch.tensor([[16.0, 16, 32, 32], [0, 16, 16, 32], [90, 90, 98, 98], [48, 0, 64, 16]])
        >>> spatial_order(boxes).tolist()
        [2, 3, 1, 0]
    """
    corner, far = boxes.float().split(2, dim=1)
    octave = (far - corner).amax(dim=1).clamp(min=1).log2().ceil()
    column, row = ((corner + far) / (2 * octave.exp2())[:, None]).long().unbind(dim=1)
    return ((octave.long() * 2**16 + row) * 2**16 + column).argsort()


def match_priors(pairs: Iterable, floor: Tensor, num_boxes: int, min_best: float = 0.0, all_best: bool = True) -> tuple:
    """The best box of each prior, and the best priors of each box, as dense (G, N) overlaps would give them.

    Args:
        pairs (Iterable): Pairs as :func:`overlapping_pairs` yields them.
        floor (Tensor): (N,) overlap of each prior with the boxes that no pair names, at most 0.
        num_boxes (int): G, at least 1.
        min_best (float): A box whose best overlap is lower claims no prior.
        all_best (bool): Whether a box claims all priors of its best overlap, or only the first.

    Returns:
        tuple: (N,) highest overlap of each prior; (N,) int64 index of the first box that reaches it; (N,) int64 index
        + 1 of the last box that claims the prior, 0 for an unclaimed one.

    Examples:
        The overlaps of two boxes (rows) with three priors. Each box claims the prior of its highest overlap:

        >>> dense = torch.tensor([[0.75, 0.5, 0.0], [0.25, 0.5, 0.0]])
        >>> box, prior = dense.nonzero(as_tuple=True)
        >>> best, first_box, claimed = match_priors([(box, prior, dense[box, prior])], torch.zeros(3), num_boxes=2)
        >>> best.tolist(), first_box.tolist(), claimed.tolist()
        ([0.75, 0.5, 0.0], [0, 0, 0], [1, 2, 0])
    """
    best_of_prior, claimed = floor.clone(), torch.zeros_like(floor, dtype=torch.long)
    first_box, best_of_box = torch.zeros_like(claimed), floor.max().repeat(num_boxes)
    # maxima and minima do not depend on the order of writing; boolean indices, which wait for CUDA, are avoided
    for box, prior, overlap in pairs:
        best_of_box.scatter_reduce_(0, box, overlap, 'amax')
        is_best = (overlap == best_of_box[box]) & (overlap >= min_best)
        if not all_best:
            none = len(floor)
            first_prior = claimed.new_full((num_boxes,), none)
            first_prior.scatter_reduce_(0, box, torch.where(is_best, prior, none), 'amin')
            is_best &= prior == first_prior[box]
        claimed.scatter_reduce_(0, prior, torch.where(is_best, box + 1, 0), 'amax')
        before = best_of_prior[prior]
        best_of_prior.scatter_reduce_(0, prior, overlap, 'amax')
        after = best_of_prior[prior]
        # a prior whose best overlap has risen forgets its box, then takes the lowest index of those that reach it
        first_box.scatter_reduce_(0, prior, torch.where(after > before, num_boxes, 0), 'amax')
        first_box.scatter_reduce_(0, prior, torch.where(overlap == after, box, num_boxes), 'amin')
    # boxes without a pair all have their best overlap at the highest floor, and the last of them overwrites the others
    unpaired = (best_of_box == floor.max()) & (best_of_box >= min_best)
    last = torch.where(unpaired, torch.arange(1, num_boxes + 1, device=floor.device), 0).max()
    best = floor == floor.max() if all_best else torch.arange(len(floor), device=floor.device) == floor.argmax()
    return best_of_prior, first_box, torch.where(best, claimed.clamp(min=last), claimed)
