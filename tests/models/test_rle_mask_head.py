import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmdet.structures.mask import encode_mask_results
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from cellseg_mm.models.mask_heads import paste
from cellseg_mm.models.mask_heads.paste import paste_runs

SETTINGS = dict(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=3)


def predict(head, logits, boxes, labels, shape, scale=(1.0, 1.0), threshold=0.5, rescale=True):
    results = InstanceData(bboxes=boxes.clone(), labels=labels, scores=torch.ones(len(boxes), device=boxes.device))
    meta = dict(ori_shape=shape, scale_factor=scale)
    config = ConfigDict(mask_thr_binary=threshold)
    return head.predict_by_feat([logits.clone()], [results], [meta], config, rescale=rescale)[0]


def assert_equals_stock(logits, boxes, labels, shape, kinds=('RLEMaskHead', 'FCNMaskHead'), more=None, **options):
    heads = [MODELS.build(dict(SETTINGS, type=kind, **(more or {}))) for kind in kinds]
    assert type(heads[1]).__name__ == kinds[1] and type(heads[1]).__module__.startswith('mmdet.')
    ours, stock = (predict(head, logits, boxes, labels, shape, **options) for head in heads)
    codes = encode_mask_results(stock.masks.cpu().numpy())
    expected = [dict(code, counts=code['counts'].decode()) for code in codes]
    assert ours.masks == expected
    torch.testing.assert_close(ours.bboxes, stock.bboxes, rtol=0, atol=0)


def random_case(seed, num=40, shape=(120, 150), smooth=True):
    """Boxes of all sizes, some beyond the border, some of whole numbers; logits of blobs, or of noise."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(num, 2, generator=generator) * torch.tensor([shape[1], shape[0]]) - 5
    size = torch.rand(num, 2, generator=generator) ** 2 * 80
    corner = torch.minimum(corner, torch.tensor([shape[1], shape[0]]) - 1)  # the stock head fails on boxes far outside
    boxes = torch.cat([corner, (corner + size).clamp(min=0)], dim=1)
    boxes[::4] = boxes[::4].round()
    logits = torch.randn(num, SETTINGS['num_classes'], 28, 28, generator=generator)
    if smooth:
        distance = torch.hypot(*torch.meshgrid(*[torch.linspace(-1, 1, 28)] * 2, indexing='ij'))
        logits = logits * 0.3 + 4 * (0.9 - distance)
    return logits, boxes, torch.randint(0, SETTINGS['num_classes'], (num,), generator=generator), shape


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('smooth', [True, False])
@pytest.mark.parametrize('threshold', [0.5, 0.2, 0.9])
def test_codes_are_those_of_the_stock_bitmaps(seed, smooth, threshold):
    assert_equals_stock(*random_case(seed, smooth=smooth), threshold=threshold)


@pytest.mark.parametrize('rescale', [True, False])
def test_rescaled_images(rescale):
    assert_equals_stock(*random_case(7), scale=(1.7, 1.3), rescale=rescale)


@pytest.mark.parametrize(
    'kind, more',
    [
        ('CoarseMaskHead', dict(num_fcs=1, fc_out_channels=4)),
        ('DynamicMaskHead', {}),
        ('HTCMaskHead', {}),
        ('SCNetMaskHead', {}),
    ],
)
def test_the_heads_of_other_detectors(kind, more):
    assert_equals_stock(*random_case(5), kinds=(f'RLE{kind}', kind), more=more)


def test_small_chunks(monkeypatch):
    monkeypatch.setattr(paste, 'CHUNK_PX', 500)
    assert_equals_stock(*random_case(8))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-3, 14)] * 4), min_size=1, max_size=5),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 2**31),
)
def test_boxes_of_any_kind(corners, height, width, seed):
    """Without an area, at and over the border, as large as the image: runs over whole columns are joined."""
    first, last = np.sort(np.reshape(corners, (-1, 2, 2)), axis=1).transpose(1, 0, 2)
    limits = np.array([width, height])
    boxes = torch.from_numpy(np.hstack([np.minimum(first, limits - 1), np.maximum(last, 0)]).astype(np.float32))
    logits = torch.randn(len(boxes), 3, 28, 28, generator=torch.Generator().manual_seed(seed)) + 1
    assert_equals_stock(logits, boxes, torch.zeros(len(boxes), dtype=torch.int64), (height, width))


def test_no_instance():
    head = MODELS.build(dict(type='RLEMaskHead', **SETTINGS))
    results = predict(head, torch.zeros(0, 3, 28, 28), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), (20, 30))
    assert results.masks == [] and len(results) == 0


def test_predictions_index_as_others_do():
    results = predict(MODELS.build(dict(type='RLEMaskHead', **SETTINGS)), *random_case(0))
    kept = results[results.labels == 1]
    assert kept.masks == [code for code, label in zip(results.masks, results.labels, strict=True) if label == 1]
    assert copy.deepcopy(results).masks == results.masks


def test_a_threshold_of_zero_is_refused():
    with pytest.raises(ValueError, match='must be above 0'):
        paste_runs(torch.zeros(1, 28, 28), torch.zeros(1, 4), 5, 5, 0)


@pytest.mark.cuda
@pytest.mark.parametrize('threshold', [0.5, 0.2])
def test_codes_are_those_of_the_stock_bitmaps_on_cuda(threshold):
    logits, boxes, labels, shape = random_case(0)
    # boxes without an area, which the stock head fills with stripes over the whole image there
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    assert_equals_stock(logits.cuda(), boxes.cuda(), labels.cuda(), shape, threshold=threshold)
