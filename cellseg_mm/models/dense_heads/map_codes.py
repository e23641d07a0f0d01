"""Masks of whole images, of which a detector makes N, as run-length codes: a few of the N at a time."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cellseg_mm.models.mask_heads.paste import window_runs
from cellseg_mm.structures import Runs, decode_runs, encode_runs

# px of the masks that are made together, in the image or in the network's maps
CHUNK_PX = 2**22


def chunks(num: int, *shapes: tuple) -> Iterator:
    """Slices of N masks that fill at most :data:`CHUNK_PX` px together, one mask at least.

    Args:
        num (int): N.
        *shapes (tuple): (H, W) of a mask in the stages of its making; the largest counts.

    Returns:
        Iterator[slice]: In order.

    Examples:
        >>> list(chunks(3, (2048, 1024)))
        [slice(0, 2, None), slice(2, 4, None)]
    """
    step = max(1, CHUNK_PX // max(1, *(height * width for height, width in shapes)))
    return (slice(first, first + step) for first in range(0, num, step))


def resize_maps(maps: Tensor, size: tuple) -> Tensor:
    """Bilinear, from (N, C, h, w) to a size (H, W); maps of that size already are kept, which gives the same values."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode='bilinear', align_corners=False)


def encode_maps(make: Callable, parts: Iterator) -> list:
    """The codes of N masks.

    Args:
        make (Callable): From a slice of the N to their masks, (n, H, W) bool.
        parts (Iterator[slice]): The slices, see :func:`chunks`.

    Returns:
        list[dict]: N times ``{'size': [H, W], 'counts': str}``.

    Examples:
        >>> masks = torch.tensor([[[True, True, False]], [[False, False, True]]])
        >>> [code['counts'] for code in encode_maps(masks.__getitem__, chunks(2, (1, 3)))]  # 0 2 1, and 2 1
        ['021', '21']
    """
    runs, counts, height, width = [], [], 0, 0
    for part in parts:
        masks = make(part)
        height, width = masks.shape[1:]
        runs.append(_runs(masks))
        counts.append(len(masks))
    return encode_runs(Runs.concatenate(runs, counts), sum(counts), height, width) if runs else []


def code_boxes(codes: list) -> Tensor:
    """(N, 4) float32 tight boxes [x1, y1, x2, y2) in px of N codes; zeros for a mask without a pixel."""
    boxes = decode_runs(codes).boxes(len(codes), codes[0]['size'][0]) if codes else np.zeros((0, 4))
    return torch.from_numpy(boxes).float()


def _runs(masks: Tensor) -> Runs:
    """The runs of (n, H, W) masks; only the window in which any is true is searched."""
    rows, cols = (masks.any(dim=0).any(dim=axis).nonzero()[:, 0] for axis in (1, 0))
    if not len(rows):
        return Runs(*np.zeros((3, 0), np.int64))
    top, left = rows[0], cols[0]
    window = masks[:, top : rows[-1] + 1, left : cols[-1] + 1]
    begin = torch.stack([left, top]).expand(len(masks), 2)
    owner, start, length = window_runs(window, np.arange(len(masks)), begin, masks.shape[1])
    return Runs(owner, start, length)
