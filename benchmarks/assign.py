#!/usr/bin/env python3
"""Assignment of ground truth to priors, ours against mmdet's MaxIoUAssigner, after a check that the results are equal.

rpn: the anchors of all levels of the R50-FPN row. rcnn: 1,000 proposals, which are displaced cells in a random order.
"""

import argparse
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from common import make_case, measure, print_table
from mmdet.registry import TASK_UTILS
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from cellseg_mm.utils import load_config

MODEL = load_config(Path(__file__).parents[1] / 'configs/maskrcnn_r50_fpn.py').model
STAGES, CELLS = ('rcnn', 'rpn'), (50, 300, 600)
ASSIGNERS = ('SparseMaxIoUAssigner', 'MaxIoUAssigner')


def make_boxes(case: dict, stage: str, device: str) -> tuple:
    """Priors and ground truth of a scene."""
    gt = torch.tensor([instance['bbox'] for instance in case['instances']], dtype=torch.float32)
    if stage == 'rpn':
        generator = TASK_UTILS.build(MODEL.rpn_head.anchor_generator)
        padded = -(-case['height'] // 32) * 32
        sizes = [(-(-padded // stride),) * 2 for stride, _ in generator.strides]
        priors = torch.cat(generator.grid_priors(sizes, device='cpu'))
    else:
        random = torch.Generator().manual_seed(0)
        near = gt[torch.randint(len(gt), (1000,), generator=random)]
        priors = near + 4 * torch.randn(near.shape, generator=random)
    gt_instances = InstanceData(bboxes=gt, labels=torch.zeros(len(gt), dtype=torch.long))
    return InstanceData(priors=priors).to(device), gt_instances.to(device)


def assignment(case: dict, stage: str, assigner: str, device: str) -> Callable:
    """A function that assigns. Its first call makes the boxes, because torch must not start threads before a fork."""
    built = TASK_UTILS.build(dict(MODEL.train_cfg[stage].assigner, type=assigner))
    boxes = functools.cache(lambda: make_boxes(case, stage, device))
    return lambda: built.assign(*boxes())


def assert_equal(ours: Callable, stock: Callable) -> None:
    """Check that both give the same result."""
    for name in ('gt_inds', 'max_overlaps', 'labels'):
        torch.testing.assert_close(getattr(ours(), name), getattr(stock(), name), rtol=0, atol=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, default=1000, help='height and width of the scenes in px')
    parser.add_argument('--cells', type=int, nargs='+', default=CELLS, help='cells of the scenes')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    init_default_scope('mmdet')
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cases = [make_case(Path(folder), args.size, cells) for cells in args.cells]
    for stage in STAGES:
        for case in cases:
            ours, stock = (assignment(case, stage, name, args.device) for name in ASSIGNERS)
            measure(functools.partial(assert_equal, ours, stock))
            fast, slow = measure(ours, repeats=20, warm_up=2), measure(stock, repeats=3, warm_up=1)
            shown = [f'{1000 * fast[0]:.1f}', f'{1000 * slow[0]:.1f}', f'{fast[1]:.0f}', f'{slow[1]:.0f}']
            rows.append([stage, args.size, len(case['instances']), *shown])
    print_table(['stage', 'px', 'cells', 'ours ms', 'stock ms', 'ours MiB', 'stock MiB'], rows)
    print(f'memory_ratio {slow[1] / max(fast[1], 0.1):.1f}')
    print(f'ratio {slow[0] / fast[0]:.1f}')


if __name__ == '__main__':
    main()
