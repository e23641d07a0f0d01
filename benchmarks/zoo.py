#!/usr/bin/env python3
"""Parameters of the detectors of configs/zoo, and CPU seconds of a training step, which other programs do not change.

A step is forward and backward of two images of random pixels with random cells, from random weights in fp32, with
nothing frozen; after one step that is not counted.
"""

import argparse
import copy
import logging
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from common import print_table
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.registry import init_default_scope

from cellseg_mm.models.detector_config import forget_pretrained, set_normalisation, set_num_classes, train_all
from cellseg_mm.utils import load_config

CONFIGS = Path(__file__).parents[1] / 'configs'
NAMES = ['maskrcnn_r50_fpn', *sorted(f'zoo/{path.stem}' for path in CONFIGS.glob('zoo/*.py'))]
NAMES += ['demo/cascade_mask_rcnn_r18_fpn']


def step_seconds(name: str, size: int, cells: int, repeats: int) -> tuple:
    """Parameters and median CPU seconds of a config."""
    torch.manual_seed(0)
    np.random.seed(0)
    model = load_config(str(CONFIGS / f'{name}.py')).model
    forget_pretrained(model)
    train_all(model)
    set_num_classes(model, 4)
    set_normalisation(model, [128.0] * 3, [64.0] * 3)
    detector = MODELS.build(model)
    detector.init_weights()
    detector.train()
    batch = demo_mm_inputs(2, [[3, size, size]] * 2, num_items=[cells] * 2, num_classes=4, with_mask=True)
    seconds = []
    for _ in range(repeats + 1):
        start = time.process_time()
        data = detector.data_preprocessor(copy.deepcopy(batch), True)
        loss, _ = detector.parse_losses(detector(**data, mode='loss'))
        loss.backward()
        seconds.append(time.process_time() - start)
        detector.zero_grad()
    return sum(parameter.numel() for parameter in detector.parameters()), statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--configs', nargs='+', default=NAMES, metavar='NAME', help='below configs/, without .py')
    parser.add_argument('--size', type=int, default=256, help='px a side')
    parser.add_argument('--cells', type=int, default=20, help='of an image')
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args()
    init_default_scope('mmdet')
    torch.set_num_threads(1)
    logging.disable(logging.INFO)  # of the initialised weights
    rows = []
    for name in args.configs:
        parameters, seconds = step_seconds(name, args.size, args.cells, args.repeats)
        rows.append([name, f'{parameters:,}', f'{seconds:.2f}'])
        print(*rows[-1], file=sys.stderr, flush=True)  # the last ones take minutes
    print(f'two images of {args.size}x{args.size} px, {args.cells} cells each; one thread')
    print_table(['config', 'parameters', 'CPU s a step'], rows)


if __name__ == '__main__':
    main()
