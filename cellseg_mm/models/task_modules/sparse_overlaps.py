"""Overlaps of boxes with priors, without computing those that must be zero.

A cell overlaps about one anchor in a hundred. So priors are sorted such that neighbours of like size lie together, cut
into blocks, and a box is compared only with the priors of blocks whose bounding box it touches.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

# Priors a block, found by timing 600 cells on 262,000 anchors: with fewer there are more blocks, with more larger ones.
BLOCK = 32
# Pairs looked at together, about 100 bytes each.
MAX_PAIRS = 2**20


def overlapping_pairs(boxes: Tensor, priors: Tensor, overlaps: Callable = bbox_overlaps) -> Iterator:
    """All pairs of a box and a prior whose overlap is above zero, some boxes at a time.

    Memory goes with :data:`MAX_PAIRS` and the number of priors, never with boxes x priors.

    Args:
        boxes (Tensor): (G, 4) float [x1, y1, x2, y2], finite.
        priors (Tensor): (N, 4) likewise, in any order.
        overlaps (Callable): Of (K, 1, 4) boxes with (K, B, 4) priors, (K, 1, B); 0 where they do not intersect.

    Yields:
        tuple: (P,) int64 indices of boxes, (P,) int64 indices of priors, (P,) their overlaps. All pairs of a box come
        together, and boxes come in their order.
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
    """An order in which neighbouring boxes of like size follow one another.

    By the power of two that holds the longer side, then by row and column of the centre on a grid as wide.

    Args:
        boxes (Tensor): (N, 4) float [x1, y1, x2, y2].

    Returns:
        Tensor: (N,) int64 indices.
    """
    corner, far = boxes.float().split(2, dim=1)
    octave = (far - corner).amax(dim=1).clamp(min=1).log2().ceil()
    column, row = ((corner + far) / (2 * octave.exp2())[:, None]).long().unbind(dim=1)
    return ((octave.long() * 2**16 + row) * 2**16 + column).argsort()


def match_priors(pairs: Iterable, floor: Tensor, num_boxes: int, min_best: float = 0.0, all_best: bool = True) -> tuple:
    """The best box of each prior, and the priors that are the best of a box, as dense (G, N) overlaps would give them.

    Args:
        pairs (Iterable): What :func:`overlapping_pairs` yields.
        floor (Tensor): (N,) overlap of each prior with the boxes that no pair names, at most 0.
        num_boxes (int): G, at least 1.
        min_best (float): A box whose best overlap is lower claims no prior.
        all_best (bool): Whether a box claims every prior of its best overlap, or only the first.

    Returns:
        tuple: (N,) highest overlap of each prior; (N,) int64 index of the first box that has it; (N,) int64 index + 1
        of the last box that claims the prior, 0 where there is none.
    """
    best_of_prior, claimed = floor.clone(), torch.zeros_like(floor, dtype=torch.long)
    first_box, best_of_box = torch.zeros_like(claimed), floor.max().repeat(num_boxes)
    # maxima and minima do not depend on the order of writing, and without boolean indices CUDA need not be waited for
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
        # a prior whose overlap has risen forgets its box, then takes the lowest index among those at the top
        first_box.scatter_reduce_(0, prior, torch.where(after > before, num_boxes, 0), 'amax')
        first_box.scatter_reduce_(0, prior, torch.where(overlap == after, box, num_boxes), 'amin')
    # boxes without a pair all have their best at the highest floor, and the last of them overwrites the others
    unpaired = (best_of_box == floor.max()) & (best_of_box >= min_best)
    last = torch.where(unpaired, torch.arange(1, num_boxes + 1, device=floor.device), 0).max()
    best = floor == floor.max() if all_best else torch.arange(len(floor), device=floor.device) == floor.argmax()
    return best_of_prior, first_box, torch.where(best, claimed.clamp(min=last), claimed)
