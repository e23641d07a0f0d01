#!/usr/bin/env python3
"""Check a prepared data set: images shared by splits, missing classes, odd sizes, duplicate cells, anchors."""

import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from cellseg_mm.arguments import tool_parser
from cellseg_mm.datasets import inner_datasets
from cellseg_mm.datasets.check import Check, check_anchors, check_prepared_set, checks_text
from cellseg_mm.engine import AnchorFitHook
from cellseg_mm.engine.data_facts import fill_from_prepared_data
from cellseg_mm.engine.hooks.anchor_fit_hook import dataset_anchor_iou
from cellseg_mm.models.detector_config import build_anchor_generator
from cellseg_mm.utils import UserError, load_config, one_line_errors


def anchor_fit(cfg: Config) -> Check:
    """How the anchors of a config fit the training split, by the limits of :class:`AnchorFitHook`."""
    init_default_scope('mmdet')
    fill_from_prepared_data(cfg)
    generator = build_anchor_generator(cfg.model)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints progress
        datasets = list(inner_datasets(DATASETS.build(cfg.train_dataloader.dataset)))
    best_iou = torch.cat([dataset_anchor_iou(dataset, generator) for dataset in datasets]).numpy()
    infos = [dataset.get_data_info(index) for dataset in datasets for index in range(len(dataset))]
    cells = [instance for info in infos for instance in info['instances'] if not instance['ignore_flag']]
    labels = np.array([cell['bbox_label'] for cell in cells], int)
    limits = AnchorFitHook()
    return check_anchors(best_iou, labels, datasets[0].metainfo['classes'], limits.iou_thr, limits.max_share)


def load(path: str, prepared: Path) -> Config:
    """The config with ``data_root`` at the prepared data set."""
    cfg = load_config(path, dict(data_root=str(prepared.absolute())))
    if build_anchor_generator(cfg.get('model', {})) is None:
        raise UserError(f'{path}: has no anchor_generator with anchors to check')
    return cfg


@one_line_errors
def main() -> None:
    parser = tool_parser(__doc__, 'python tools/check_data.py data/cells --config configs/maskrcnn_r50_fpn_cbam.py')
    parser.add_argument('prepared', type=Path, help='prepared data set, written by tools/prepare_data.py')
    parser.add_argument('--config', help='also check the anchors of this config')
    parser.add_argument('--strict', action='store_true', help='exit with status 1 if there is a warning')
    args = parser.parse_args()
    cfg = load(args.config, args.prepared) if args.config else None
    checks = check_prepared_set(args.prepared)
    if cfg:
        checks['anchors'] = anchor_fit(cfg)
    print(checks_text(checks))
    warned = sum(bool(check.warnings) for check in checks.values())
    print(f'{warned} of {len(checks)} checks warn')
    sys.exit(1 if args.strict and warned else 0)


if __name__ == '__main__':
    main()
