#!/usr/bin/env python3
"""RoIAlign from four levels by SparseRoIAlign against mmcv's on the CPU, after a check that results are close.

train: forward and backward for four windows of 256x256 px with 96 channels, with 96 RoIs each for boxes and 25 for
masks. infer: forward for an image with 256 channels, with 1,000 proposals for boxes and 600 for masks. All through
mmdet's SingleRoIExtractor, whose sorting into levels and copies count. channels_last: features in that memory format,
which ours takes as they are and mmcv after a copy.
"""

import argparse
import functools
from collections.abc import Callable

import numpy as np
import torch
from common import measure, print_table
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

import cellseg_mm  # noqa: F401  (mmdet then finds our layer)

STRIDES = (4, 8, 16, 32)


def make_inputs(images: int, size: int, num_rois: int, channels: int, memory: torch.memory_format) -> tuple:
    """Feature maps of images of ``size`` px, and as many RoIs on each, of cells about 34 px wide."""
    rng = np.random.default_rng(0)
    centres, sizes = rng.uniform(0, size, (images * num_rois, 2)), np.exp(rng.normal(3.5, 0.4, (images * num_rois, 2)))
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1).clip(0, size)
    rois = np.concatenate([np.arange(images).repeat(num_rois)[:, None], boxes], axis=1)
    random = torch.Generator().manual_seed(0)
    maps = [torch.randn(images, channels, *(-(-size // stride),) * 2, generator=random) for stride in STRIDES]
    return [level.contiguous(memory_format=memory) for level in maps], torch.from_numpy(rois.astype(np.float32))


def pooling(layer: str, bins: int, train: bool, *scene: object) -> Callable:
    """A function that pools and, to train, gives the gradients too. Its first call makes the inputs: torch must not
    start threads before processes fork."""
    inputs = functools.cache(lambda: make_inputs(*scene))
    roi_layer = dict(type=layer, output_size=bins, sampling_ratio=0)
    # finest_scale of the small rows, so that several levels take part
    extractor = SingleRoIExtractor(roi_layer, scene[3], STRIDES, finest_scale=28)

    def pool() -> list:
        maps, rois = inputs()
        if layer == 'RoIAlign':
            maps = [level.contiguous() for level in maps]
        if not train:
            return [extractor(maps, rois)]
        maps = [level.detach().requires_grad_() for level in maps]
        pooled = extractor(maps, rois)
        pooled.backward(torch.ones_like(pooled))
        return [pooled.detach(), *(level.grad for level in maps)]

    return pool


def assert_close(ours: Callable, stock: Callable) -> None:
    for found, expected in zip(ours(), stock(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sizes', type=int, nargs='+', default=(1000,), help='of the images to infer, in px')
    parser.add_argument('--proposals', type=int, default=1000, help='RoIs for boxes to infer; for masks six in ten')
    parser.add_argument('--repeats', type=int, default=3, help='timed calls of mmcv; of ours twice as many')
    args = parser.parse_args()
    scenes = [
        ('infer', bins, False, 1, size, num, 256)
        for size in args.sizes
        for bins, num in ((7, args.proposals), (14, args.proposals * 6 // 10))
    ]
    scenes += [('train', bins, True, 4, 256, num, 96) for bins, num in ((14, 25), (7, 96))]
    rows = []
    for name, bins, train, *scene in scenes:
        for memory in (torch.contiguous_format, torch.channels_last):
            ours, stock = (pooling(layer, bins, train, *scene, memory) for layer in ('SparseRoIAlign', 'RoIAlign'))
            measure(functools.partial(assert_close, ours, stock))
            fast, slow = measure(ours, 2 * args.repeats, warm_up=1), measure(stock, args.repeats)
            shown = [f'{1000 * fast[0]:.1f}', f'{1000 * slow[0]:.1f}', f'{slow[0] / fast[0]:.1f}']
            shown += [f'{fast[1]:.0f}', f'{slow[1]:.0f}']
            memory_name = 'contiguous' if memory == torch.contiguous_format else 'channels_last'
            rows.append([name, scene[1], scene[0] * scene[2], f'{bins}x{bins}', memory_name, *shown])
    header = ['', 'px', 'RoIs', 'bins', 'features', 'ours ms', 'mmcv ms', 'ratio', 'ours MiB', 'mmcv MiB']
    print_table(header, rows)
    print(f'memory_ratio {slow[1] / max(fast[1], 0.1):.1f}')
    print(f'ratio {slow[0] / fast[0]:.1f}')


if __name__ == '__main__':
    main()
