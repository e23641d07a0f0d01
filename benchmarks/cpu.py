#!/usr/bin/env python3
"""Training and inference on the CPU with default settings, against stock MMDetection and an earlier checkout.

Training: windows a second of tools/train.py, from its own log, on drawn tissue or a prepared set (--data). With
--before FOLDER, a checkout of another commit, its tools/train.py trains the same config and data, in turns with ours.
Inference: one drawn image, as many detections as cells, random weights. stock has the same weights in float32, with
mmcv's nms and RoIAlign and mmdet's mask head; both end in run-length codes.
"""

import argparse
import copy
import functools
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import torch
from common import make_case, measure, print_table
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import encode_mask_results
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from cellseg_mm.datasets import make_sample_data, prepare
from cellseg_mm.engine.precision import inference_precision
from cellseg_mm.utils import keep_freed_memory
from cellseg_mm.utils.config import inner_dicts

ROOT = Path(__file__).resolve().parents[1]
TRAINED = 'configs/consep/maskrcnn_r18_fpn_cbam.py'
DETECTORS = ('consep/maskrcnn_r18_fpn_cbam', 'maskrcnn_r50_fpn', 'consep/maskrcnn_lite0_fpn')
STOCK = {
    'sparse_nms': 'nms',
    'SparseRoIAlign': 'RoIAlign',
    'RLEMaskHead': 'FCNMaskHead',
    'JointBatchRoIHead': 'StandardRoIHead',
    'OneClassBBoxHead': 'Shared2FCBBoxHead',
}


def draw_prepared(folder: Path) -> Path:
    """Drawn tissue to train on: a prepared set in this folder."""
    make_sample_data(folder / 'drawn', num_images=12, size=512, seed=0)
    prepare(folder / 'drawn', folder / 'cells', workers=1)
    return folder / 'cells'


def step_seconds(checkout: Path, config: str, data: Path, steps: int, environment: dict | None = None) -> float:
    """Mean seconds of the last steps that tools/train.py logs, including data loading; then the tool is stopped.

    Args:
        checkout (Path): Of this project, whose own tool and config are taken.
        config (str): Path in the checkout.
        data (Path): A prepared set.
        steps (int): The last is a multiple of 10.
        environment (dict | None): Variables in addition.
    """
    with tempfile.TemporaryDirectory() as work_dir:
        options = [f'data_root={data}', f'train_dataloader.num_batch_per_epoch={steps}', 'train_cfg.max_epochs=1']
        command = [sys.executable, checkout / 'tools/train.py', checkout / config, '--work-dir', work_dir]
        process = subprocess.Popen(
            [*map(str, command), '--cfg-options', *options],
            env={**os.environ, 'PYTHONPATH': str(checkout), **(environment or {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            while True:
                entries = [
                    json.loads(line)
                    for log in Path(work_dir).glob('*/vis_data/scalars.json')
                    for line in log.read_text('utf-8').splitlines()
                ]
                found = [entry['time'] for entry in entries if entry.get('iter') == steps]
                if found:
                    return found[0]
                if process.poll() is not None:
                    raise SystemExit(f'tools/train.py failed in {checkout}:\n{process.stderr.read()[-2000:]}')
                time.sleep(0.2)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def model_config(name: str, stock: bool, detections: int) -> Config:
    """The config of a detector that returns so many detections of any score."""
    model = Config.fromfile(ROOT / f'configs/{name}.py').model
    model.backbone.init_cfg = None
    model.data_preprocessor.update(mean=[127.5] * 3, std=[73.9] * 3)
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=detections)
    if stock:
        use_stock_parts(model)
    return model


def use_stock_parts(model: dict) -> None:
    """Replace a detector's own parts, in its config, by mmcv's and mmdet's."""
    for part in inner_dicts(model):
        if part.get('type') in STOCK:
            part['type'] = STOCK[part['type']]


class Inference:
    """From an image to run-length codes. The first call makes all of it, in the measured process."""

    def __init__(self, name: str, stock: bool, image: Path, detections: int, scale: float) -> None:
        self.name, self.stock, self.image, self.detections, self.scale = name, stock, image, detections, scale

    @functools.cached_property
    def parts(self) -> tuple:
        """Make the model, and a batch as from a data loader."""
        init_default_scope('mmdet')
        MMLogger.get_current_instance().setLevel(logging.WARNING)  # no line for each initialised weight
        if not self.stock:
            keep_freed_memory()
        torch.manual_seed(0)
        model = MODELS.build(model_config(self.name, self.stock, self.detections)).eval()
        model.init_weights()
        pixels = cv2.imread(str(self.image))
        resized = cv2.resize(pixels, None, fx=self.scale, fy=self.scale)
        meta = dict(ori_shape=pixels.shape[:2], img_shape=resized.shape[:2], scale_factor=(self.scale, self.scale))
        sample = DetDataSample(metainfo=meta)
        return model, dict(inputs=[torch.from_numpy(resized).permute(2, 0, 1)], data_samples=[sample])

    @torch.no_grad()
    def __call__(self) -> None:
        model, batch = self.parts
        batch = copy.deepcopy(batch)
        if self.stock:
            masks = encode_mask_results(model.test_step(batch)[0].pred_instances.masks.numpy())
        else:
            with inference_precision(model):
                masks = model.test_step(batch)[0].pred_instances.masks
        assert len(masks) == self.detections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--before', type=Path, metavar='FOLDER', help='another checkout, to train with as well')
    parser.add_argument('--data', type=Path, help='a prepared set (default: drawn tissue)')
    parser.add_argument('--config', default=TRAINED, help='trained; a path in the checkout (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=60)
    parser.add_argument('--rounds', type=int, default=3, help='of training, in turns; medians are shown; 0 for none')
    parser.add_argument('--detectors', nargs='*', default=DETECTORS, help='that find cells')
    parser.add_argument('--size', type=int, default=1000)
    parser.add_argument('--cells', type=int, default=600)
    parser.add_argument('--repeats', type=int, default=3, help='of inference')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = args.data.absolute() if args.data else draw_prepared(Path(folder))
        checkouts = dict(before=args.before and args.before.absolute(), ours=ROOT)
        checkouts = {name: checkout for name, checkout in checkouts.items() if checkout}
        seconds = {name: [] for name in checkouts}
        for _ in range(args.rounds):
            for name, found in seconds.items():
                found.append(step_seconds(checkouts[name], args.config, data, args.steps))
        if args.rounds:
            configs = {name: Config.fromfile(checkout / args.config) for name, checkout in checkouts.items()}
            rates = {
                name: configs[name].train_dataloader.batch_size / statistics.median(found)
                for name, found in seconds.items()
            }
            rows = [[name, f'{rate:.2f}', f'{rate / rates["ours"]:.2f}'] for name, rate in rates.items()]
            print_table(['training', 'windows a second', 'of ours'], rows)
            print()
        if args.detectors:
            compare_inference(args, Path(folder))


def compare_inference(args: argparse.Namespace, folder: Path) -> None:
    """Print the table of inference, and the ratios of its last row."""
    case = make_case(folder, args.size, args.cells)
    rows = []
    for name in args.detectors:
        scale = 2.0 if name.startswith('consep/') else 0.8
        found = []
        for stock in (False, True):
            run = Inference(name, stock, Path(case['img_path']), args.cells, scale)
            found.append(measure(run, repeats=args.repeats, warm_up=1))
        (ours, our_memory), (stock, memory) = found
        cells = [f'{ours:.2f}', f'{stock:.2f}', f'{stock / ours:.2f}', f'{our_memory:.0f}', f'{memory:.0f}']
        rows.append([name, f'{scale:g}', *cells])
    print_table(['inference', 'scale', 'ours s', 'stock s', 'ratio', 'ours MiB', 'stock MiB'], rows)
    print(f'memory_ratio {memory / our_memory:.1f}')
    print(f'ratio {stock / ours:.1f}')


if __name__ == '__main__':
    main()
