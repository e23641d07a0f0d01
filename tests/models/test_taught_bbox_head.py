import torch
from mmdet.registry import MODELS

from cellseg_mm.models.bbox_heads import most_likely_class, name_cells

HEAD = dict(in_channels=4, fc_out_channels=8, reg_class_agnostic=True)


def test_probabilities_are_those_of_a_cell_times_those_of_its_classes():
    generator = torch.Generator().manual_seed(0)
    detected, named = torch.randn(20, 5, generator=generator), torch.randn(20, 3, generator=generator)
    cell = 1 - detected.softmax(dim=1)[:, -1:]
    expected = torch.cat([cell * named.softmax(dim=1), 1 - cell], dim=1)
    torch.testing.assert_close(name_cells(detected, named).softmax(dim=1), expected)


def test_boxes_and_scores_of_a_cell_are_the_detectors():
    base = MODELS.build(dict(type='OneClassBBoxHead', num_classes=4, **HEAD))
    taught = MODELS.build(dict(type='TaughtBBoxHead', num_classes=2, detector_classes=4, **HEAD))
    missing, surplus = taught.load_state_dict(base.state_dict(), strict=False)
    assert missing == ['fc_taught.weight', 'fc_taught.bias'] and not surplus
    x = torch.randn(30, 4, 7, 7, generator=torch.Generator().manual_seed(0))
    (logits, boxes), (taught_logits, taught_boxes) = base(x), taught(x)
    assert taught_logits.shape == (30, 3) and torch.equal(boxes, taught_boxes)
    scores, taught_scores = (
        most_likely_class(found).softmax(dim=1)[:, :-1].max(dim=1).values for found in (logits, taught_logits)
    )
    torch.testing.assert_close(taught_scores, scores)
    seen = torch.cat([taught.embed(x), x.flatten(2).mean(dim=2)], dim=1)
    named = taught.fc_taught(seen).argmax(dim=1)
    assert torch.equal(taught_logits[:, :-1].argmax(dim=1), named)
