from types import SimpleNamespace

import pytest
import torch
from conftest import build_dataset
from mmdet.models.task_modules import AnchorGenerator, MlvlPointGenerator
from mmdet.structures.bbox import bbox_overlaps

from cellseg_mm.engine import AnchorFitHook
from cellseg_mm.engine.hooks.anchor_fit_hook import dataset_anchor_iou


def make_dataset(prepared, **resize):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadCellAnnotations')]
    return build_dataset(prepared, pipeline + ([dict(type='Resize', **resize)] if resize else []))


@pytest.mark.parametrize(
    'resize',
    [
        {},
        dict(scale=(300, 200), keep_ratio=True),
        dict(scale=(150, 90), keep_ratio=False),
        dict(scale_factor=2.0, keep_ratio=True),
    ],
)
def test_boxes_are_those_that_the_pipeline_makes(prepared, resize):
    dataset = make_dataset(prepared, **resize)
    generator = AnchorGenerator(strides=[8, 16], scales=[2], ratios=[1.0])
    found = dataset_anchor_iou(dataset, generator)
    expected = []
    for item in map(dataset.__getitem__, range(len(dataset))):
        height, width = item['img'].shape[:2]
        sizes = [(-(-height // stride), -(-width // stride)) for stride in (8, 16)]
        anchors = torch.cat(generator.grid_priors(sizes, device='cpu'))
        boxes = item['gt_bboxes'].tensor
        if len(boxes):
            expected.append(bbox_overlaps(boxes, anchors).amax(dim=1))
    # the pipeline clips boxes to the image after rounding, hence the tolerance
    torch.testing.assert_close(found, torch.cat(expected), atol=0.02, rtol=0)


@pytest.mark.parametrize('scales, level', [([2, 4, 6], 'info'), ([40], 'warning')])
def test_warns_when_anchors_miss_many_cells(prepared, scales, level):
    messages = []
    logger = SimpleNamespace(
        info=lambda text: messages.append(('info', text)), warning=lambda text: messages.append(('warning', text))
    )
    model = torch.nn.Module()
    model.rpn_head = torch.nn.Module()
    model.rpn_head.prior_generator = AnchorGenerator(strides=[8], scales=scales, ratios=[1.0])
    runner = SimpleNamespace(
        model=model, logger=logger, train_dataloader=SimpleNamespace(dataset=make_dataset(prepared))
    )
    AnchorFitHook().before_train(runner)
    assert [kind for kind, _ in messages] == [level]
    assert 'best IoU below 0.3 for' in messages[0][1]


def test_a_detector_without_anchors_is_left_alone():
    """Also one with points, such as RTMDet's: nothing else of the runner is asked for."""
    model = torch.nn.Module()
    model.prior_generator = MlvlPointGenerator(strides=[8])
    AnchorFitHook().before_train(SimpleNamespace(model=model))
