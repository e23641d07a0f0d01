#!/usr/bin/env python3
"""From the mask head's output to a scored result: run-length codes from each box's window against full-size bitmaps.

Ours is RLEMaskHead with CellMetric and all its metrics; the baseline is mmdet's FCNMaskHead with CocoMetric(metric=
'segm'). Memory is the peak of the resident size above that at the start.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import measure, print_table
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from predictions import make_predictions, score

from cellseg_mm.datasets import CLASSES

MASK_SIZE = 28


def round_masks(num: int) -> torch.Tensor:
    """(N, C, 28, 28) logits of discs that fill their boxes, a little rough."""
    axis = (np.arange(MASK_SIZE) + 0.5) / MASK_SIZE * 2 - 1
    disc = 8 * (1 - np.hypot(axis[:, None], axis))
    # numpy, because a process that has run torch's threads cannot be forked safely
    rough = np.random.default_rng(0).normal(0, 0.5, (num, len(CLASSES), MASK_SIZE, MASK_SIZE))
    return torch.from_numpy((disc + rough).astype(np.float32))


def predict_and_score(head: str, metric: dict, sample: dict, logits: torch.Tensor, device: str) -> dict:
    """The metrics of one image's predictions, from the logits on."""
    found = sample['pred_instances']
    tensors = {key: found[key].to(device) for key in ('bboxes', 'scores', 'labels')}
    meta = dict(ori_shape=sample['ori_shape'], scale_factor=(1.0, 1.0))
    mask_head = MODELS.build(dict(type=head, num_convs=0, in_channels=1, conv_out_channels=1, num_classes=len(CLASSES)))
    with torch.no_grad():
        (results,) = mask_head.predict_by_feat(
            [logits.to(device)], [InstanceData(**tensors)], [meta], ConfigDict(mask_thr_binary=0.5), rescale=True
        )
    instances = {key: results[key] for key in ('bboxes', 'scores', 'labels', 'masks')}
    return score(metric, [dict(sample, pred_instances=instances)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--shape', type=int, nargs=2, default=(2500, 2000), metavar=('H', 'W'), help='px')
    parser.add_argument('--detections', type=int, default=1000)
    parser.add_argument('--device', default='cpu', help='of the mask head')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cells = int(0.8 * args.detections)
        path, (sample,) = make_predictions(Path(folder), 1, tuple(args.shape), cells, args.detections)
        logits = round_masks(args.detections)
        cases = {
            'RLEMaskHead, CellMetric': ('RLEMaskHead', dict(type='CellMetric', ann_file=str(path))),
            'FCNMaskHead, CocoMetric': (
                'FCNMaskHead',
                dict(type='CocoMetric', ann_file=str(path), metric='segm', proposal_nums=(100, 300, 1000)),
            ),
        }
        results = {
            name: measure(lambda case=case: predict_and_score(*case, sample, logits, args.device), repeats=3)
            for name, case in cases.items()
        }
    print(f'{args.detections} detections, {args.shape[0]}x{args.shape[1]} px, {args.device}')
    rows = [[name, f'{seconds:.2f}', f'{memory:.0f}'] for name, (seconds, memory) in results.items()]
    print_table(['mask head, metric', 's', 'MiB'], rows)
    ours, stock = np.array(list(results.values()))
    print(f'memory_ratio {stock[1] / max(ours[1], 0.1):.1f}')
    print(f'ratio {stock[0] / ours[0]:.1f}')


if __name__ == '__main__':
    main()
