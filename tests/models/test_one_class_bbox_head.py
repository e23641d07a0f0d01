import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from cellseg_mm.datasets.cell_dataset import UNKNOWN_CLASS
from cellseg_mm.models.bbox_heads import most_likely_class

HEAD = dict(in_channels=4, fc_out_channels=8, num_classes=3, reg_class_agnostic=True)
TEST_CFG = ConfigDict(score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5, class_agnostic=True), max_per_img=10)


def test_most_likely_class():
    logits = torch.tensor([[0.4, 0.3, 0.1, 0.2], [0.0, 0.1, 0.2, 0.7]]).log()
    expected = torch.tensor([[0.8, 0.0, 0.0, 0.2], [0.0, 0.0, 0.3, 0.7]])
    torch.testing.assert_close(most_likely_class(logits).softmax(dim=1), expected)


def test_a_box_has_one_class_and_the_score_of_a_cell():
    head = MODELS.build(dict(type='OneClassBBoxHead', **HEAD))
    rois = torch.tensor([[0.0, 10, 10, 30, 30], [0.0, 60, 60, 80, 80]])
    logits = torch.tensor([[0.4, 0.3, 0.1, 0.2], [0.1, 0.5, 0.3, 0.1]]).log()
    meta = dict(img_shape=(100, 100), scale_factor=(2.0, 2.0))
    found = head._predict_by_feat_single(rois, logits, torch.zeros(2, 4), meta, rescale=True, rcnn_test_cfg=TEST_CFG)
    kept = found.scores > 0
    torch.testing.assert_close(found.scores[kept], torch.tensor([0.9, 0.8]))
    assert found.labels[kept].tolist() == [1, 0]
    torch.testing.assert_close(found.bboxes[kept], torch.tensor([[30.0, 30, 40, 40], [5.0, 5, 15, 15]]))


def test_training_is_that_of_the_stock_head():
    ours, stock = (MODELS.build(dict(type=name, **HEAD)) for name in ('OneClassBBoxHead', 'Shared2FCBBoxHead'))
    ours.load_state_dict(stock.state_dict())
    features, rois = torch.randn(5, 4, 7, 7), torch.rand(5, 5)
    targets = torch.tensor([0, 1, 2, 3, 3]), torch.ones(5), torch.rand(5, 4), torch.ones(5, 4)
    losses = [head.loss(*head(features), rois, *targets) for head in (ours, stock)]
    assert all(torch.equal(losses[0][key], losses[1][key]) for key in ('loss_cls', 'loss_bbox'))


def test_a_cell_of_unknown_class_is_only_taught_to_be_a_cell():
    """Its loss is -log of the sum of the classes' probabilities, whose gradient cannot tell the classes apart."""
    head = MODELS.build(dict(type='OneClassBBoxHead', **HEAD))
    probabilities = torch.tensor([[0.4, 0.3, 0.1, 0.2], [0.2, 0.1, 0.1, 0.6], [0.1, 0.2, 0.3, 0.4]])
    logits = probabilities.log().requires_grad_()
    labels, boxes = torch.tensor([UNKNOWN_CLASS, 2, 3]), torch.zeros(3, 4)
    targets = labels, torch.ones(3), boxes + 1, boxes + 1
    losses = head.loss(logits, boxes, torch.rand(3, 5), *targets)
    torch.testing.assert_close(losses['loss_cls'], -torch.tensor([0.8, 0.1, 0.4]).log().mean())
    losses['loss_cls'].backward()
    torch.testing.assert_close(logits.grad[0, :3] * 3, probabilities[0, :3] * (1 - 1 / 0.8))
    torch.testing.assert_close(losses['loss_bbox'], torch.tensor(4 / 3))  # 0.5 a side of both cells, over 3 boxes


def test_certain_background_gives_no_nan_beside_an_unknown_cell():
    head = MODELS.build(dict(type='OneClassBBoxHead', **HEAD))
    logits = torch.tensor([[0.0, 0, 0, 0], [-300.0, -300, -300, 300]], requires_grad=True)
    boxes = torch.zeros(2, 4)
    head.loss(logits, boxes, torch.rand(2, 5), torch.tensor([UNKNOWN_CLASS, 3]), torch.ones(2), boxes, boxes)[
        'loss_cls'
    ].backward()
    assert logits.grad.isfinite().all()
