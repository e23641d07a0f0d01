#!/usr/bin/env python3
"""Non-maximum suppression by sparse_nms against mmcv's nms, after a check that boxes, scores and order are equal.

cells: candidates jittered around cells, as from the second stage, for NMS across classes. train: the proposals of a
window of 128 px at twice its size, the best of each level, with the levels set apart as in mmcv's batched_nms; early
ones are nearly anchors, late ones gather around ten cells. dense: those of an image of 1000 px at twice its size,
12,000 a level.
"""

import argparse
import functools

import numpy as np
import torch
from common import measure, print_table
from mmcv.ops import batched_nms
from mmdet.models.task_modules import AnchorGenerator
from torch import Tensor

from cellseg_mm.models.layers import sparse_nms  # noqa: F401  (mmcv finds it by its name)

STRIDES = (4, 8, 16, 32, 64)


def candidates(num: int, each: int, size: int) -> tuple:
    """(N, 4) boxes of cells about 26 px wide on an image of ``size`` px, (N,) scores, and (N,) groups, all the same."""
    rng = np.random.default_rng(0)
    centres, sides = rng.uniform(0, size, (num, 2)), rng.uniform(20, 32, (num, 2))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).repeat(each, axis=0)
    boxes += rng.normal(0, 2, boxes.shape)
    return tensors(boxes, rng.random(len(boxes)), np.zeros(len(boxes)))


def proposals(size: int, num_cells: int, nms_pre: int, pull: float) -> tuple:
    """Anchors that moved towards the nearest cell, the best of each level: boxes, scores and levels.

    Args:
        size (int): Height and width of the network's input in px.
        num_cells (int): Cells on it, 34 px wide.
        nms_pre (int): The most of a level.
        pull (float): How far they moved, from 0 to 1.
    """
    rng = np.random.default_rng(0)
    cells = rng.uniform(0, size, (num_cells, 2))
    generator = AnchorGenerator(strides=STRIDES, ratios=[0.5, 1.0, 2.0], scales=[4, 4 * 2**0.5])
    levels = generator.grid_priors([(-(-size // stride),) * 2 for stride in STRIDES], device='cpu')
    kept = []
    for level, anchors in enumerate(levels):
        anchors = anchors.numpy()
        centres, sides = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
        parts = np.array_split(centres, len(centres) // 1000 + 1)
        nearest = np.concatenate([((part[:, None] - cells) ** 2).sum(axis=2).argmin(axis=1) for part in parts])
        distance = np.hypot(*(centres - cells[nearest]).T)
        share = (pull * (distance < 2 * sides.max(axis=1)))[:, None]
        centres = centres + share * (cells[nearest] - centres) + rng.normal(0, 0.05, centres.shape) * sides
        sides = np.exp(np.log(sides) * (1 - share) + np.log(34) * share + rng.normal(0, 0.05, sides.shape))
        boxes = np.clip(np.concatenate([centres - sides / 2, centres + sides / 2], axis=1), 0, size)
        scores = 1 / (1 + distance / 10) * rng.uniform(0.5, 1, len(boxes))
        best = scores.argsort()[::-1][:nms_pre]
        kept.append((boxes[best], scores[best], np.full(len(best), level)))
    return tensors(*map(np.concatenate, zip(*kept, strict=True)))


def tensors(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> tuple:
    return torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(scores.astype(np.float32)), torch.tensor(groups)


def suppress(name: str, scene: tuple, threshold: float) -> tuple[Tensor, Tensor]:
    """The result that mmdet needs: boxes with scores, and indices."""
    return batched_nms(*scene, dict(type=name, iou_threshold=threshold, split_thr=100_000))


def assert_equal(scene: tuple, threshold: float) -> None:
    for ours, stock in zip(*(suppress(name, scene, threshold) for name in ('sparse_nms', 'nms')), strict=True):
        assert torch.equal(ours, stock)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cells', type=int, default=600, help='cells on 1000x1000 px, with 20 candidates each')
    parser.add_argument('--repeats', type=int, default=5, help='timed calls of mmcv; of ours four times as many')
    args = parser.parse_args()
    # both ways use one thread, and a process that has run torch's threads cannot be forked safely
    torch.set_num_threads(1)
    density = args.cells / 600
    candidate_scene = candidates(args.cells, 20, 1000)
    scenes = {
        'train, early': proposals(256, max(round(10 * density), 1), round(2000 * density), 0.05),
        'train, late': proposals(256, max(round(10 * density), 1), round(2000 * density), 0.7),
        'dense': proposals(2000, args.cells, round(12000 * density), 0.7),
        'cells': candidate_scene,
    }
    rows = []
    for name, scene in scenes.items():
        for threshold in (0.5, 0.7):
            measure(functools.partial(assert_equal, scene, threshold))
            fast = measure(functools.partial(suppress, 'sparse_nms', scene, threshold), 4 * args.repeats, warm_up=2)
            slow = measure(functools.partial(suppress, 'nms', scene, threshold), args.repeats, warm_up=1)
            kept = len(suppress('sparse_nms', scene, threshold)[1])
            shown = [f'{1000 * fast[0]:.1f}', f'{1000 * slow[0]:.1f}', f'{slow[0] / fast[0]:.1f}']
            rows.append([name, len(scene[0]), threshold, kept, *shown])
    print_table(['boxes of', 'boxes', 'threshold', 'kept', 'ours ms', 'mmcv ms', 'ratio'], rows)
    print(f'memory_ratio {slow[1] / max(fast[1], 0.1):.1f}')
    print(f'ratio {slow[0] / fast[0]:.1f}')


if __name__ == '__main__':
    main()
