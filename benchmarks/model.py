#!/usr/bin/env python3
"""Training step, inference, parameters and memory of the ablation's rows, beside stock mmdet's Mask R-CNN R50-FPN.

One dense scene at its own size, batch 2 in training and 1 in inference, random weights, the same thresholds and at most
300 detections for all. The attention's share is the time inside its modules over that of the whole inference. Memory is
the peak of the resident size above that at the start; on CUDA, the peak that torch allocated. --amp adds each row in
mixed precision, fp16 (CUDA only); fp32 is PyTorch's default, on CUDA with TF32 in convolutions.
"""

import argparse
import functools
import itertools
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from common import clock, make_case, measure, print_table
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import init_default_scope

from cellseg_mm.utils import load_config

CONFIGS = Path(__file__).parents[1] / 'configs'
STOCK = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
ROWS = ('stock', 'maskrcnn_r50', 'maskrcnn_r50_fpn', 'maskrcnn_r50_fpn_cbam')
RATIO_ROW = 'maskrcnn_r50_fpn'
WARM_UP = 2  # calls; on CUDA the first ones choose kernels and take memory


def model_config(row: str) -> ConfigDict:
    """A row's model, with the same classes and thresholds for all."""
    model = get_config(STOCK).model if row == 'stock' else load_config(CONFIGS / f'{row}.py').model
    model.backbone.init_cfg = None
    model.data_preprocessor.update(mean=[127.5] * 3, std=[73.9] * 3)
    model.roi_head.bbox_head.num_classes = model.roi_head.mask_head.num_classes = 4
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=300)
    return model


class Run:
    """A training step or an inference at each call. The first call makes all of it, in the measured process.

    Attributes:
        facts (Tensor): (2,) of the last call: parameters, and seconds inside attention.
    """

    def __init__(self, row: str, cases: list, training: bool, device: str, amp: bool) -> None:
        self.row, self.cases, self.training, self.device, self.amp = row, cases, training, device, amp
        self.facts = torch.zeros(2, dtype=torch.float64).share_memory_()

    @functools.cached_property
    def parts(self) -> tuple:
        """Make the model, the optimizer, and a batch as from a data loader."""
        torch.manual_seed(0)
        model = MODELS.build(model_config(self.row)).to(self.device).train(self.training)
        model.init_weights()
        self.facts[0] = sum(parameter.numel() for parameter in model.parameters())
        for module in getattr(model.backbone, 'attention_modules', list)():
            module.forward = self._timed(module.forward)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        loading = dict(type='LoadCellAnnotations')
        if self.row == 'stock':
            loading = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
        meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
        pipeline = Compose([dict(type='LoadImageFromFile'), loading, dict(type='PackDetInputs', meta_keys=meta)])
        samples = [pipeline(dict(case, scale_factor=(1.0, 1.0))) for case in self.cases[: 1 + self.training]]
        batch = {key: [sample[key] for sample in samples] for key in samples[0]}
        wrapper = AmpOptimWrapper if self.amp else OptimWrapper
        return model, wrapper(optimizer=torch.optim.AdamW(trained, lr=0.0)), batch

    def _timed(self, function: Callable) -> Callable:
        def timing(*args: object) -> object:
            start = clock()
            result = function(*args)
            self.facts[1] += clock() - start
            return result

        return timing

    def __call__(self) -> None:
        model, optimizer, batch = self.parts
        self.facts[1] = 0
        torch.manual_seed(0)
        if self.training:
            model.train_step(batch, optimizer)
        else:
            with torch.no_grad(), torch.autocast(self.device, torch.float16, enabled=self.amp):
                model.test_step(batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, default=512, help='height and width of the scene in px')
    parser.add_argument('--cells', type=int, default=150)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--amp', action='store_true', help='each row in mixed precision as well')
    args = parser.parse_args()
    if args.amp and args.device == 'cpu':
        parser.error('--amp: needs --device cuda')
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    rows, inference = [], {}
    with tempfile.TemporaryDirectory() as folder:
        cases = [make_case(Path(folder), args.size, args.cells, index) for index in range(2)]
        for amp, row in itertools.product([False, True][: 1 + args.amp], ROWS):
            cells = []
            for training in (True, False):
                run = Run(row, cases, training, args.device, amp)
                seconds, memory = measure(run, repeats=args.repeats, warm_up=WARM_UP)
                parameters, attention = run.facts.tolist()
                cells += [f'{seconds:.3f}', f'{memory:.0f}']
            inference[row, amp] = seconds, memory
            cells += [f'{1 / seconds:.2f}', f'{attention / seconds:.1%}' if attention else '']
            rows.append([row, f'{parameters:,.0f}', 'fp16' if amp else 'fp32', *cells])
    print(f'{args.size}x{args.size} px, {args.cells} cells, {args.device}')
    header = ['row', 'parameters', 'precision', 'training step s', 'MiB', 'inference s', 'MiB', 'images a second']
    header += ["attention's share"]
    print_table(header, rows)
    stock, ours = inference['stock', False], inference[RATIO_ROW, False]
    print(f'memory_ratio {stock[1] / ours[1]:.2f}')
    print(f'ratio {stock[0] / ours[0]:.2f}')


if __name__ == '__main__':
    main()
