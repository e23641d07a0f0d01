#!/usr/bin/env python3
"""A training step (forward, backward, optimizer) on dense scenes: batch 2, images at their own size.

Three ways, with the same weights and the same draws. ours: a config of this project, masks as one id map. stock: the
same with mmdet's MaxIoUAssigner, mmcv's nms and RoIAlign, and one bitmap a cell. floor: ours, in which assignment,
ground-truth copies and mask targets are constants that the first step stored. The learning rate is 0, so that all steps
are the same.
The second table shows where the last step of the last scene spent its time.
"""

import argparse
import collections
import copy
import functools
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from common import clock, make_case, measure, print_table
from mmcv.transforms import Compose
from mmdet.models.detectors import two_stage
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from cellseg_mm.utils import load_config

CONFIG = Path(__file__).parents[1] / 'configs/maskrcnn_r50_fpn.py'
SIZES, CELLS = (512, 1000), (300, 600)
WAYS = ('ours', 'stock', 'floor')
LOSSES = ('loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask')
TOLERANCE = 1e-5
PARTS = (
    'padding, normalisation',
    'copies of ground truth',
    'assignment, RPN',
    'assignment, R-CNN',
    'mask targets',
    'backward, optimizer',
    'the rest of forward',
)


def timed(function: Callable, seconds: Tensor) -> Callable:
    """A function that adds the time of each call to ``seconds``, a tensor without dimensions."""

    def timing(*args: object, **kwargs: object) -> object:
        start = clock()
        result = function(*args, **kwargs)
        seconds.add_(clock() - start)
        return result

    return timing


def stored(function: Callable, calls: int) -> Callable:
    """A function that returns, in turn, the results of its first ``calls`` calls."""
    results = collections.deque()

    def replay(*args: object, **kwargs: object) -> object:
        results.append(function(*args, **kwargs) if len(results) < calls else results.popleft())
        return copy.copy(results[-1])  # samplers add the ground truth to their input

    return replay


class TrainingStep:
    """A step at each call. The first call makes model and batch, in the measured process.

    Args:
        config (str | Path): Of the model.
        cases (list[dict]): The images, see :func:`common.make_case`.
        way (str): One of :data:`WAYS`.
        device (str): Of the model.

    Attributes:
        losses (Tensor): (5,) of the last step, in memory that processes share.
        seconds (Tensor): (7,) seconds of its parts.
    """

    def __init__(self, config: str | Path, cases: list, way: str, device: str = 'cpu') -> None:
        self.config, self.cases, self.way, self.device = config, cases, way, device
        self.losses = torch.zeros(len(LOSSES)).share_memory_()
        self.seconds = torch.zeros(len(PARTS)).share_memory_()

    @functools.cached_property
    def parts(self) -> tuple:
        """Make the model, with random weights and frozen as in fine-tuning, the optimizer, and a batch."""
        cfg = load_config(self.config).model
        cfg.backbone.init_cfg = None
        cfg.data_preprocessor.update(mean=[127.5] * 3, std=[73.9] * 3)
        loading = dict(type='LoadCellAnnotations')
        if self.way == 'stock':
            cfg.train_cfg.rpn.assigner.type = cfg.train_cfg.rcnn.assigner.type = 'MaxIoUAssigner'
            cfg.train_cfg.rpn_proposal.nms.type = 'nms'
            for extractor in (cfg.roi_head.bbox_roi_extractor, cfg.roi_head.mask_roi_extractor):
                extractor.roi_layer.type = 'RoIAlign'
            loading = dict(type='LoadAnnotations', with_mask=True)
        torch.manual_seed(0)
        model = MODELS.build(cfg).train()
        model.init_weights()
        model.to(self.device)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = OptimWrapper(torch.optim.AdamW(trained, lr=0.0))
        pipeline = Compose([dict(type='LoadImageFromFile'), loading, dict(type='PackDetInputs')])
        samples = [pipeline(dict(case)) for case in self.cases]
        self._instrument(model, optimizer)
        return model, optimizer, {key: [sample[key] for sample in samples] for key in samples[0]}

    def _instrument(self, model: nn.Module, optimizer: OptimWrapper) -> None:
        """Store results for the floor, and time the parts."""
        rpn, rcnn, mask_head = model.rpn_head.assigner, model.roi_head.bbox_assigner, model.roi_head.mask_head
        if self.way == 'floor':
            rpn.assign, rcnn.assign = (stored(assigner.assign, len(self.cases)) for assigner in (rpn, rcnn))
            mask_head.get_targets = stored(mask_head.get_targets, 1)
        two_stage.copy = SimpleNamespace(deepcopy=copy.deepcopy)
        owners = (model.data_preprocessor, two_stage.copy, rpn, rcnn, mask_head, optimizer)
        methods = ('forward', 'deepcopy', 'assign', 'assign', 'get_targets', 'update_params')
        for owner, method, seconds in zip(owners, methods, self.seconds, strict=False):
            setattr(owner, method, timed(getattr(owner, method), seconds))

    def __call__(self) -> None:
        model, optimizer, batch = self.parts
        self.seconds.zero_()
        torch.manual_seed(0)  # here, so that samplers draw the same in each step
        start = clock()
        log = model.train_step(batch, optimizer)
        self.seconds[-1] = clock() - start - self.seconds.sum()
        self.losses.copy_(torch.stack([log[name] for name in LOSSES]))
        if self.way == 'floor':
            for sample in batch['data_samples']:
                sample.gt_instances.pop('masks', None)


def measure_scene(steps: list, repeats: int) -> list:
    """Seconds and MiB of the steps, after a check that their losses agree.

    Raises:
        AssertionError: If the losses differ.
    """
    results = [measure(step, repeats=1 if step.way == 'stock' else repeats, warm_up=1) for step in steps]
    for step in steps[1:]:
        torch.testing.assert_close(step.losses, steps[0].losses, rtol=0, atol=TOLERANCE)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=CONFIG)
    parser.add_argument('--sizes', type=int, nargs='+', default=SIZES, help='height and width of the scenes in px')
    parser.add_argument('--cells', type=int, nargs='+', default=CELLS, help='their cells')
    parser.add_argument('--repeats', type=int, default=3, help='timed steps of ours and the floor; stock has one')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size, cells in zip(args.sizes, args.cells, strict=True):
            cases = [make_case(Path(folder), size, cells, index) for index in range(2)]
            steps = [TrainingStep(args.config, cases, way, args.device) for way in WAYS]
            seconds, memory = zip(*measure_scene(steps, args.repeats), strict=True)
            row = [f'{value:.1f}' for value in seconds] + [f'{value:.0f}' for value in memory]
            row += [f'{seconds[0] / seconds[2]:.2f}', f'{memory[0] / memory[1]:.2f}']
            rows.append([size, cells, *row, f'{(steps[0].losses - steps[1].losses).abs().max():.0e}'])
    header = ['px', 'cells', *(f'{way} s' for way in WAYS), *(f'{way} MiB' for way in WAYS)]
    print_table([*header, 'time over floor', 'memory over stock', 'losses differ'], rows)
    print()
    shares = zip(PARTS, *(step.seconds.tolist() for step in steps), strict=True)
    print_table(['part', *(f'{way} s' for way in WAYS)], [[part, *(f'{s:.3f}' for s in row)] for part, *row in shares])
    print()
    print(f'memory_ratio {memory[1] / memory[0]:.1f}')
    print(f'ratio {seconds[1] / seconds[0]:.1f}')


if __name__ == '__main__':
    main()
