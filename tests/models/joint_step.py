"""A training step of two images by one process, or by several that share them: joint_step.py OUT, in each.

OUT gets what the step adds to each parameter, with our RoI head and with the stock one. What differs between the two
ways for other reasons is taken out: samplers choose the first, not random ones, and no BatchNorm trains. Numbers are
double, but for the mask loss, which mmdet computes in float.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.ops.nms import NMSop
from mmdet.models.task_modules.samplers import RandomSampler
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dist import get_dist_info, is_main_process
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from tiny_detector import narrow

from cellseg_mm.structures import InstanceMapMasks

SIZE = 96
FLOAT_NMS = NMSop.forward


def first(self: RandomSampler, gallery: torch.Tensor, num: int) -> torch.Tensor:
    """In place of RandomSampler.random_choice."""
    return gallery[:num]


def nms_of_doubles(ctx: object, boxes: torch.Tensor, scores: torch.Tensor, *rest: object) -> torch.Tensor:
    """In place of NMSop.forward, which takes floats alone."""
    return FLOAT_NMS(ctx, boxes.float(), scores.float(), *rest)


def make_sample(cells: int) -> tuple:
    """An image of so many square cells, and its ground truth."""
    rng = np.random.default_rng(cells)
    instance_map = np.zeros((SIZE, SIZE), np.int32)
    for number, place in enumerate(rng.permutation(16)[:cells], start=1):
        row, col = np.array(divmod(int(place), 4)) * 24 + rng.integers(0, 6, 2)
        instance_map[row : row + 17, col : col + 15] = number
    masks = InstanceMapMasks(instance_map[None])
    image = np.where(instance_map > 0, 60, 200) + rng.integers(0, 50, (3, SIZE, SIZE))
    sample = DetDataSample(metainfo=dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), scale_factor=(1.0, 1.0)))
    labels = torch.from_numpy(rng.integers(0, 4, cells))
    sample.gt_instances = InstanceData(bboxes=masks.get_bboxes('hbox').tensor.double(), labels=labels, masks=masks)
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0))
    return torch.from_numpy(image.astype(np.float64)), sample


def step(roi_head: str) -> dict:
    """The change of each parameter."""
    cfg = Config.fromfile(Path(__file__).parents[2] / 'configs/demo/maskrcnn_r18_fpn.py')
    cfg.merge_from_dict(dict(model=narrow(cfg.model)))
    cfg = cfg.model
    cfg.backbone.update(norm_eval=True, frozen_stages=1)
    cfg.roi_head.type = roi_head
    cfg.data_preprocessor.update(mean=[127.5] * 3, std=[73.9] * 3)
    torch.manual_seed(0)
    model = MODELS.build(cfg).double().train()
    model.init_weights()
    before = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), clip_grad=dict(max_norm=10))
    rank, world_size = get_dist_info()
    samples = [make_sample(cells) for cells in (2, 12)][rank::world_size]
    batch = dict(inputs=[image for image, _ in samples], data_samples=[sample for _, sample in samples])
    trained = MMDistributedDataParallel(model, broadcast_buffers=False) if world_size > 1 else model
    trained.train_step(batch, optimizer)
    after = dict(model.named_parameters())
    return {name: after[name].detach() - value for name, value in before.items()}


def steps() -> dict:
    """The changes by each head."""
    init_default_scope('mmdet')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RandomSampler, 'random_choice', first)
        patch.setattr(NMSop, 'forward', staticmethod(nms_of_doubles))
        return {roi_head: step(roi_head) for roi_head in ('JointBatchRoIHead', 'StandardRoIHead')}


if __name__ == '__main__':
    torch.distributed.init_process_group('gloo')
    changes = steps()
    if is_main_process():
        torch.save(changes, sys.argv[1])
