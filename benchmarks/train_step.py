#!/usr/bin/env python3
"""A training step (forward, backward, optimizer) on dense scenes: batch 2, images at their own size.

Three ways, with the same weights and the same draws. ours: a config of this project, masks as one id map. stock: the
same with mmdet's MaxIoUAssigner and one bitmap a cell. floor: ours, in which assignment, ground-truth copies and mask
targets are constants that the first step stored. The learning rate is 0, so that all steps are alike.
"""

import argparse
import collections
import copy
import functools
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from common import make_case, measure, print_table
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import nn

from cellseg_mm.utils import load_config

CONFIG = Path(__file__).parents[1] / 'configs/maskrcnn_r50_fpn.py'
SIZES, CELLS = (512, 1000), (300, 600)
WAYS = ('ours', 'stock', 'floor')
LOSSES = ('loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask')
TOLERANCE = 1e-5


def stored(function: Callable, calls: int) -> Callable:
    """A function that goes on giving, in turn, what its first ``calls`` calls gave."""
    results = collections.deque()

    def replay(*args: object, **kwargs: object) -> object:
        results.append(function(*args, **kwargs) if len(results) < calls else results.popleft())
        return copy.copy(results[-1])  # samplers add the ground truth to what they get

    return replay


class TrainingStep:
    """A step at each call. Model and batch are made at the first call, in the process that is measured.

    Args:
        config (str | Path): Of the model.
        cases (list[dict]): The images, see :func:`common.make_case`.
        way (str): One of :data:`WAYS`.

    Attributes:
        losses (Tensor): (5,) of the last step, in memory that processes share.
    """

    def __init__(self, config: str | Path, cases: list, way: str) -> None:
        self.config, self.cases, self.way = config, cases, way
        self.losses = torch.full((len(LOSSES),), torch.nan).share_memory_()

    @functools.cached_property
    def model(self) -> nn.Module:
        """Of random weights; frozen as in fine-tuning."""
        cfg = load_config(self.config).model
        cfg.backbone.init_cfg = None
        cfg.data_preprocessor.update(mean=[127.5] * 3, std=[73.9] * 3)
        if self.way == 'stock':
            cfg.train_cfg.rpn.assigner.type = cfg.train_cfg.rcnn.assigner.type = 'MaxIoUAssigner'
        torch.manual_seed(0)
        model = MODELS.build(cfg)
        model.init_weights()
        if self.way == 'floor':
            rpn, rcnn, mask_head = model.rpn_head.assigner, model.roi_head.bbox_assigner, model.roi_head.mask_head
            rpn.assign, rcnn.assign = (stored(assigner.assign, len(self.cases)) for assigner in (rpn, rcnn))
            mask_head.get_targets = stored(mask_head.get_targets, 1)
        return model.train()

    @functools.cached_property
    def optimizer(self) -> OptimWrapper:
        """The report's, at rest."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return OptimWrapper(torch.optim.AdamW(parameters, lr=0.0))

    @functools.cached_property
    def batch(self) -> dict:
        """As a data loader gives it."""
        loading = (
            dict(type='LoadAnnotations', with_mask=True) if self.way == 'stock' else dict(type='LoadCellAnnotations')
        )
        pipeline = Compose([dict(type='LoadImageFromFile'), loading, dict(type='PackDetInputs')])
        samples = [pipeline(dict(case)) for case in self.cases]
        return {key: [sample[key] for sample in samples] for key in samples[0]}

    def __call__(self) -> None:
        model, batch, optimizer = self.model, self.batch, self.optimizer
        torch.manual_seed(0)  # once they are made, so that samplers draw alike in each step
        log = model.train_step(batch, optimizer)
        self.losses.copy_(torch.stack([log[name] for name in LOSSES]))
        if self.way == 'floor':
            for sample in batch['data_samples']:
                sample.gt_instances.pop('masks', None)


def measure_scene(config: str | Path, cases: list, repeats: int) -> tuple:
    """Seconds and MiB by way, and the largest difference of a loss between ours and stock."""
    steps = {way: TrainingStep(config, cases, way) for way in WAYS}
    figures = {way: measure(steps[way], repeats=1 if way == 'stock' else repeats, warm_up=1) for way in WAYS}
    for way in ('stock', 'floor'):
        torch.testing.assert_close(steps[way].losses, steps['ours'].losses, rtol=0, atol=TOLERANCE)
    return figures, (steps['ours'].losses - steps['stock'].losses).abs().max().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=CONFIG)
    parser.add_argument('--sizes', type=int, nargs='+', default=SIZES, help='height and width of the scenes in px')
    parser.add_argument('--cells', type=int, nargs='+', default=CELLS, help='their cells')
    parser.add_argument('--repeats', type=int, default=3, help='timed steps of ours and the floor; stock has one')
    args = parser.parse_args()
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size, cells in zip(args.sizes, args.cells, strict=True):
            cases = [make_case(Path(folder), size, cells, index) for index in range(2)]
            figures, difference = measure_scene(args.config, cases, args.repeats)
            seconds, memory = ([figures[way][column] for way in WAYS] for column in range(2))
            shown = [*(f'{value:.1f}' for value in seconds), *(f'{value:.0f}' for value in memory)]
            rows.append(
                [
                    size,
                    cells,
                    *shown,
                    f'{seconds[0] / seconds[2]:.2f}',
                    f'{memory[0] / memory[1]:.2f}',
                    f'{difference:.0e}',
                ]
            )
    header = ['px', 'cells', *(f'{way} s' for way in WAYS), *(f'{way} MiB' for way in WAYS)]
    print_table([*header, 'time over floor', 'memory over stock', 'losses differ'], rows)
    print(f'memory_ratio {memory[1] / memory[0]:.1f}')
    print(f'ratio {seconds[1] / seconds[0]:.1f}')


if __name__ == '__main__':
    main()
