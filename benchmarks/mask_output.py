#!/usr/bin/env python3
"""From a head's output to a scored result: run-length codes, a few masks at a time, against full-size bitmaps.

Ours is a head with codes (RLEMaskHead and its like) with CellMetric and all its metrics; the baseline is mmdet's head
with CocoMetric(metric='segm'). Memory is the peak of the resident size above that at the start.

rois: the mask head of Mask R-CNN, from logits of 28x28 px; rtmdet: RTMDet-Ins, from mask features at stride 8 and the
kernels of the instances; solov2: SOLOv2, from mask features at stride 4 and the kernels. Baselines of the last two hold
several float32 maps of the image's size for each instance, and are left out unless --stock asks for them.
"""

import argparse
import functools
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
STRIDE = 32  # to which inputs are padded


@functools.cache
def round_masks(num: int) -> torch.Tensor:
    """(N, C, 28, 28) logits of discs that fill their boxes, a little rough."""
    axis = (np.arange(MASK_SIZE) + 0.5) / MASK_SIZE * 2 - 1
    disc = 8 * (1 - np.hypot(axis[:, None], axis))
    # numpy, because a process that has run torch's threads cannot be forked safely
    rough = np.random.default_rng(0).normal(0, 0.5, (num, len(CLASSES), MASK_SIZE, MASK_SIZE))
    return torch.from_numpy((disc + rough).astype(np.float32))


def predict_by_rois(head: str, tensors: dict, meta: dict) -> InstanceData:
    """Of masks of 28x28 px in their boxes."""
    settings = dict(num_convs=0, in_channels=1, conv_out_channels=1, num_classes=len(CLASSES))
    mask_head, logits = MODELS.build(dict(type=head, **settings)), round_masks(len(tensors['scores']))
    (results,) = mask_head.predict_by_feat(
        [logits.to(tensors['scores'].device)],
        [InstanceData(**tensors)],
        [meta],
        ConfigDict(mask_thr_binary=0.5),
        rescale=True,
    )
    return results


def predict_by_rtmdet(head: str, tensors: dict, meta: dict) -> InstanceData:
    """Of kernels that make a diamond around each instance's centre, as wide as its box."""
    generator = dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32])
    settings = dict(num_classes=len(CLASSES), in_channels=8, feat_channels=8, anchor_generator=generator)
    module = MODELS.build(dict(type=head, norm_cfg=dict(type='BN'), **settings))
    centers = (tensors['bboxes'][:, :2] + tensors['bboxes'][:, 2:]) / 2
    # three layers: the positive and the negative parts of x and y; the same; the radius minus their sum
    first, second, third = torch.zeros(8, 10), torch.eye(8), torch.zeros(8)
    first[:4, :2] = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    third[:4] = -64  # x and y come as px / 64
    shared = torch.cat([first.flatten(), second.flatten(), third, torch.zeros(16)]).to(centers)
    radii = (tensors['bboxes'][:, 2] - tensors['bboxes'][:, 0])[:, None] / 2
    kernels = torch.cat([shared.expand(len(centers), -1), radii], dim=1)
    results = InstanceData(**tensors, kernels=kernels, priors=torch.cat([centers, torch.full_like(centers, 8)], dim=1))
    features = torch.zeros(8, *(-(-side // STRIDE) * STRIDE // 8 for side in meta['img_shape'])).to(centers)
    cfg = ConfigDict(nms=dict(type='nms', iou_threshold=1.0), max_per_img=len(results), mask_thr_binary=0.5)
    return module._bbox_mask_post_process(results, features, cfg, rescale=True, img_meta=meta)


def predict_by_solov2(head: str, tensors: dict, meta: dict) -> InstanceData:
    """Of kernels that make a disc around each instance's centre, as wide as its box."""
    count = len(tensors['scores'])
    grid = int(np.ceil(np.sqrt(count)))
    settings = dict(num_classes=len(CLASSES), in_channels=8, strides=[4], scale_ranges=((1, 2048),), num_grids=[grid])
    settings['mask_feature_head'] = dict(start_level=0, end_level=0, feat_channels=8, out_channels=4, mask_stride=4)
    settings['norm_cfg'] = dict(type='BN')
    settings['loss_mask'] = dict(type='DiceLoss', use_sigmoid=True, loss_weight=3.0)
    settings['loss_cls'] = dict(type='FocalLoss', use_sigmoid=True, loss_weight=1.0)
    module = MODELS.build(ConfigDict(type=head, feat_channels=8, stacked_convs=1, **settings))
    rows, cols = (torch.arange(-(-side // STRIDE) * STRIDE // 4) * 0.04 for side in meta['img_shape'])  # 100 px
    y, x = torch.meshgrid(rows, cols, indexing='ij')
    features = torch.stack([x, y, x**2 + y**2, torch.ones_like(x)]).to(tensors['scores'])
    centers, radii = tensors['bboxes'].reshape(count, 2, 2).mean(1) / 100, (tensors['bboxes'][:, 2:3] / 200)
    radii = radii - tensors['bboxes'][:, :1] / 200
    # 200 (r^2 - (x - x0)^2 - (y - y0)^2)
    constant = radii**2 - (centers**2).sum(1, keepdim=True)
    kernels = 200 * torch.cat([2 * centers, -torch.ones_like(radii), constant], dim=1)
    scores = torch.zeros(grid**2, len(CLASSES)).to(kernels)
    scores[torch.arange(count), tensors['labels']] = tensors['scores'].to(kernels).clamp(min=0.2)
    kernels = torch.cat([kernels, kernels.new_zeros(grid**2 - count, 4)])
    cfg = ConfigDict(
        nms_pre=count, score_thr=0.1, mask_thr=0.5, filter_thr=0.0, kernel='gaussian', sigma=2.0, max_per_img=count
    )
    return module._predict_by_feat_single(kernels, scores, features[None], meta, cfg)


HEADS = dict(
    rois=(predict_by_rois, 'RLEMaskHead', 'FCNMaskHead'),
    rtmdet=(predict_by_rtmdet, 'RLERTMDetInsHead', 'RTMDetInsHead'),
    solov2=(predict_by_solov2, 'RLESOLOV2Head', 'SOLOV2Head'),
)


def predict_and_score(predict: object, head: str, metric: dict, sample: dict, device: str) -> dict:
    """The metrics of one image's predictions, from the head's output on."""
    found = sample['pred_instances']
    tensors = {key: found[key].to(device) for key in ('bboxes', 'scores', 'labels')}
    meta = dict(ori_shape=sample['ori_shape'], img_shape=sample['ori_shape'], scale_factor=(1.0, 1.0))
    with torch.no_grad():
        results = predict(head, tensors, meta)
    instances = {key: results[key] for key in ('bboxes', 'scores', 'labels', 'masks')}
    return score(metric, [dict(sample, pred_instances=instances)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--shape', type=int, nargs=2, default=(2500, 2000), metavar=('H', 'W'), help='px')
    parser.add_argument('--detections', type=int, default=1000)
    parser.add_argument('--heads', nargs='+', choices=HEADS, default=['rois'])
    parser.add_argument('--stock', action='store_true', help='also the baselines of rtmdet and solov2')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--device', default='cpu', help='of the head')
    args = parser.parse_args()
    round_masks(args.detections)  # before the processes start that are measured
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        cells = int(0.8 * args.detections)
        path, (sample,) = make_predictions(Path(folder), 1, tuple(args.shape), cells, args.detections)
        ours = dict(type='CellMetric', ann_file=str(path))
        stock = dict(type='CocoMetric', ann_file=str(path), metric='segm', proposal_nums=(100, 300, 1000))
        for name in args.heads:
            predict, own, other = HEADS[name]
            cases = [(own, ours)] + [(other, stock)] * (name == 'rois' or args.stock)
            for case in cases:
                results[case[0], case[1]['type']] = measure(
                    lambda predict=predict, case=case: predict_and_score(predict, *case, sample, args.device),
                    repeats=args.repeats,
                )
    print(f'{args.detections} detections, {args.shape[0]}x{args.shape[1]} px, {args.device}')
    rows = [[', '.join(name), f'{seconds:.2f}', f'{memory:.0f}'] for name, (seconds, memory) in results.items()]
    print_table(['head, metric', 's', 'MiB'], rows)
    if len(args.heads) == 1 and len(results) == 2:
        (own_seconds, own_memory), (seconds, memory) = results.values()
        print(f'memory_ratio {memory / max(own_memory, 0.1):.1f}')
        print(f'ratio {seconds / own_seconds:.1f}')


if __name__ == '__main__':
    main()
