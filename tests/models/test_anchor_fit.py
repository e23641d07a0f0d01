import pytest
import torch
from mmdet.models.task_modules import AnchorGenerator
from mmdet.structures.bbox import bbox_overlaps

from cellseg_mm.models import best_anchor_iou


@pytest.mark.parametrize('strides, scales', [([4, 8, 16, 32, 64], [4]), ([16], [1, 2, 4, 8, 16])])
def test_equals_the_best_of_all_anchors(strides, scales):
    generator = AnchorGenerator(strides=strides, scales=scales, ratios=[0.5, 1.0, 2.0])
    sizes = [(-(-200 // stride), -(-300 // stride)) for stride in strides]
    corners = torch.rand(300, 2) * torch.tensor([300.0, 200.0])
    boxes = torch.cat([corners, corners + 1 + 90 * torch.rand(300, 2)], dim=1)
    anchors = torch.cat(generator.grid_priors(sizes, device='cpu'))
    expected = bbox_overlaps(boxes, anchors).amax(dim=1)
    found = best_anchor_iou(boxes, generator.base_anchors, generator.strides, sizes)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_box_that_is_an_anchor():
    generator = AnchorGenerator(strides=[8], scales=[4], ratios=[1.0])
    box = generator.base_anchors[0] + torch.tensor([24.0, 16.0, 24.0, 16.0])
    assert best_anchor_iou(box, generator.base_anchors, generator.strides, [(10, 10)]).tolist() == [1.0]


def test_no_boxes():
    generator = AnchorGenerator(strides=[8], scales=[4], ratios=[1.0])
    assert best_anchor_iou(torch.zeros(0, 4), generator.base_anchors, generator.strides, [(3, 3)]).shape == (0,)
