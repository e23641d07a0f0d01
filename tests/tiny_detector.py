"""A detector an eighth as wide as the demo's, with random weights: its checkpoint as training writes it, images for it,
and what MMDetection finds with it."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.runner import save_checkpoint
from torch import nn

from cellseg_mm import deploy
from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.engine import data_facts
from cellseg_mm.engine.detector import build_detector

ROOT = Path(__file__).parents[1]
MEAN, STD, CLASSES = [150.0, 100.0, 130.0], [50.0, 40.0, 36.0], ['a', 'b', 'c']
POINT = dict(score_thr=0.25, epoch=2)
INPUT_SCALE = [1.5, 2.0, 2.0]  # as of training images of 128 to 170 px
WIDTH = 16


def narrow(model: dict, width: int = WIDTH) -> dict:
    """The changes that make the model of a row of the demo so wide, in place of 128."""
    stages = [width // 2 * 2**stage for stage in range(4)]
    extractor, convs = dict(out_channels=width), dict(in_channels=width, conv_out_channels=width)
    roi_head = dict(bbox_roi_extractor=extractor, mask_roi_extractor=extractor, mask_head=convs)
    return dict(
        backbone=dict(base_channels=stages[0], init_cfg=None),
        neck=dict(in_channels=stages[-len(model['neck']['in_channels']) :], out_channels=width),
        rpn_head=dict(in_channels=width, feat_channels=width),
        roi_head=dict(roi_head, bbox_head=dict(in_channels=width, fc_out_channels=width)),
    )


def tiny_config(base: str, **test_cfg: dict) -> Config:
    """A row of the demo, an eighth as wide."""
    cfg = Config.fromfile(ROOT / f'configs/demo/{base}.py')
    cfg.merge_from_dict(dict(model=dict(narrow(cfg.model), test_cfg=test_cfg), channel_order='bgr'))
    data_facts.set_data_facts(cfg, MEAN, STD, CLASSES)
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
    deploy.detect(detector, deploy.drawn_image())
    for hook in hooks:
        hook.remove()
    return detector


def save_tiny_checkpoint(path: Path) -> None:
    """Weights and what training puts beside them."""
    cfg = tiny_config('maskrcnn_r18_fpn_cbam', rcnn=dict(score_thr=0.1))
    meta = dict(
        cfg=cfg.pretty_text,
        dataset_meta=dict(classes=tuple(CLASSES)),
        operating_point=POINT,
        input_scale=INPUT_SCALE,
        epoch=3,
    )
    save_checkpoint(dict(state_dict=random_detector(cfg).state_dict(), meta=meta), str(path))


def draw(seed: int, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    return draw_tissue(np.random.default_rng(seed), height, width)[0]


def predict(cfg: Config, detector: nn.Module, image: np.ndarray, path: Path) -> object:
    """What MMDetection's own test path finds in an image file."""
    cv2.imwrite(str(path), image[..., ::-1])
    steps = [step for step in cfg.test_dataloader.dataset.pipeline if step['type'] != 'LoadCellAnnotations']
    steps[-1] = dict(steps[-1], meta_keys=('ori_shape', 'img_shape', 'scale_factor'))
    data = Compose(steps)(dict(img_path=str(path)))
    with torch.no_grad():
        sample = detector.test_step(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))[0]
    return sample.pred_instances
