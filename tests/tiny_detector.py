"""A row of the demo with few channels and random weights, which finds very many cells in any image."""

from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import save_checkpoint
from torch import nn

from cellseg_mm.engine import handover, run_setup
from cellseg_mm.engine.detector import build_detector

ROOT = Path(__file__).parents[1]
MEAN, STD, CLASSES = [150.0, 100.0, 130.0], [50.0, 40.0, 36.0], ['a', 'b', 'c']
POINT = dict(score_thr=0.25, epoch=2)
ROWS = ['maskrcnn_r18', 'maskrcnn_r18_fpn_cbam']
WIDTH = 16


def tiny_config(base: str, **test_cfg: dict) -> Config:
    """A row of the demo, an eighth as wide."""
    cfg = Config.fromfile(ROOT / f'configs/demo/{base}.py')
    stages = [WIDTH // 2 * 2**stage for stage in range(4)]
    extractor, convs = dict(out_channels=WIDTH), dict(in_channels=WIDTH, conv_out_channels=WIDTH)
    roi_head = dict(bbox_roi_extractor=extractor, mask_roi_extractor=extractor, mask_head=convs)
    model = dict(
        backbone=dict(base_channels=stages[0], init_cfg=None),
        neck=dict(in_channels=stages[-len(cfg.model.neck.in_channels) :], out_channels=WIDTH),
        rpn_head=dict(in_channels=WIDTH, feat_channels=WIDTH),
        roi_head=dict(roi_head, bbox_head=dict(in_channels=WIDTH, fc_out_channels=WIDTH)),
        test_cfg=test_cfg,
    )
    cfg.merge_from_dict(dict(model=model, channel_order='bgr'))
    run_setup.set_data_facts(cfg, MEAN, STD, CLASSES)
    return cfg


def rescale_to(spread: float) -> Callable:
    def rescale(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        factor = spread / output.std()
        layer.weight.data *= factor
        return output * factor

    return rescale


def random_detector(cfg: Config) -> nn.Module:
    """Random weights, each layer's scaled to outputs of one spread: scores neither saturate nor tie."""
    torch.manual_seed(0)
    detector = build_detector(cfg)
    spreads, hooks = dict(rpn_reg=0.3), []
    for name, layer in detector.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and 'attention' not in name:
            nn.init.normal_(layer.weight)
            hooks.append(layer.register_forward_hook(rescale_to(spreads.get(name.split('.')[-1], 1))))
    handover.detect(detector, handover.drawn_image())
    for hook in hooks:
        hook.remove()
    return detector


def write_checkpoint(path: Path) -> Path:
    """A checkpoint file as training writes it."""
    cfg = tiny_config(ROWS[1], rcnn=dict(score_thr=0.1))
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=tuple(CLASSES)), operating_point=POINT, epoch=3)
    save_checkpoint(dict(state_dict=random_detector(cfg).state_dict(), meta=meta), str(path))
    return path
