"""Heads with run-length codes against MMDetection's own, of the same weights and input."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import encode_mask_results, mask2bbox
from mmengine.config import ConfigDict

from cellseg_mm.models.dense_heads import chunks, code_boxes, encode_maps, map_codes

# input sizes padded to 32, and the scales at which images came to them
CASES = [
    ((96, 128), (96, 128), 1.0),
    ((96, 128), (90, 101), 1.0),
    ((64, 96), (57, 83), 0.37),
    ((96, 64), (95, 49), 2.3),
]
NORM = dict(norm_cfg=dict(type='BN'), act_cfg=dict(type='SiLU', inplace=True))
RTMDET = dict(
    num_classes=3,
    in_channels=8,
    feat_channels=8,
    share_conv=True,
    pred_kernel_size=1,
    **NORM,
    anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
    bbox_coder=dict(type='DistancePointBBoxCoder'),
    loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
    loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
    loss_mask=dict(type='DiceLoss', loss_weight=2.0, eps=5e-6, reduction='mean'),
    test_cfg=ConfigDict(
        nms_pre=300,
        min_bbox_size=0,
        score_thr=0.5,
        nms=dict(type='nms', iou_threshold=0.9),
        max_per_img=60,
        mask_thr_binary=0.5,
    ),
)
SOLOV2 = dict(
    num_classes=3,
    in_channels=8,
    feat_channels=8,
    stacked_convs=1,
    strides=[4, 8, 16],
    scale_ranges=((1, 48), (24, 96), (48, 2048)),
    num_grids=[12, 8, 4],
    cls_down_index=0,
    mask_feature_head=dict(
        feat_channels=8, start_level=0, end_level=2, out_channels=8, mask_stride=4, norm_cfg=dict(type='BN')
    ),
    loss_mask=dict(type='DiceLoss', use_sigmoid=True, loss_weight=3.0),
    loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
    norm_cfg=dict(type='BN'),
    test_cfg=ConfigDict(
        nms_pre=100,
        score_thr=0.3,
        mask_thr=0.5,
        filter_thr=0.05,
        kernel='gaussian',
        sigma=2.0,
        max_per_img=40,
    ),
)


def pair(ours, stock, settings):
    """Both heads with the same random weights, in eval mode, of wide spread."""
    torch.manual_seed(0)
    heads = [MODELS.build(dict(copy.deepcopy(settings), type=kind)) for kind in (ours, stock)]
    assert type(heads[1]).__module__.startswith('mmdet.')
    for parameter in heads[0].parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    heads[1].load_state_dict(heads[0].state_dict())
    for head in heads:
        head.train(False)
    return heads


def features(padded, strides, channels=8):
    generator = torch.Generator().manual_seed(padded[0])
    sizes = [(padded[0] // stride, padded[1] // stride) for stride in strides]
    return tuple(torch.randn(1, channels, *size, generator=generator) * 2 for size in sizes)


def meta(padded, shape, scale):
    original = tuple(round(side / scale) for side in shape)
    return dict(
        img_shape=shape,
        ori_shape=original,
        batch_input_shape=padded,
        scale_factor=(shape[1] / original[1], shape[0] / original[0]),
    )


def encode(masks):
    return [dict(code, counts=code['counts'].decode()) for code in encode_mask_results(masks.cpu().numpy())]


def assert_same(ours, stock, boxes=True, least=3):
    assert len(ours) == len(stock) >= least
    assert ours.masks == encode(stock.masks)
    assert {code['counts'] for code in ours.masks} - {encode(stock.masks[:1] & False)[0]['counts']}  # some have pixels
    torch.testing.assert_close(ours.scores, stock.scores)
    assert torch.equal(ours.labels, stock.labels)
    expected = stock.bboxes if boxes else mask2bbox(stock.masks)
    torch.testing.assert_close(ours.bboxes, expected, rtol=0, atol=0)


@pytest.fixture(params=[2**22, 10_000, 1], ids=['all', 'some', 'one'])
def chunk_px(request, monkeypatch):
    """Masks made together, in groups, and one by one."""
    monkeypatch.setattr(map_codes, 'CHUNK_PX', request.param)


@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('padded, shape, scale', CASES)
@pytest.mark.parametrize('kind', ['RTMDetInsHead', 'RTMDetInsSepBNHead'])
def test_rtmdet_ins(kind, padded, shape, scale, rescale, chunk_px):
    settings = dict(RTMDET)
    if kind == 'RTMDetInsHead':
        settings.pop('share_conv')
    heads = pair(f'RLE{kind}', kind, settings)
    x, info = features(padded, (8, 16, 32)), meta(padded, shape, scale)
    with torch.no_grad():
        found = [head.predict_by_feat(*head(x), batch_img_metas=[info], rescale=rescale)[0] for head in heads]
    assert_same(*found)


@pytest.mark.parametrize('padded, shape, scale', CASES)
def test_solov2(padded, shape, scale, chunk_px):
    """Its boxes are those of the masks, where the stock head leaves zeros."""
    heads = pair('RLESOLOV2Head', 'SOLOV2Head', SOLOV2)
    x, info = features(padded, (4, 8, 16)), meta(padded, shape, scale)
    with torch.no_grad():
        found = [head.predict_by_feat(*head(x), batch_img_metas=[info])[0] for head in heads]
    assert not found[1].bboxes.any()
    assert_same(*found, boxes=False)


@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('padded, shape, scale', CASES)
def test_mask2former(padded, shape, scale, rescale, chunk_px):
    """With the stock head's masks of the input's size, and with the small ones of ours."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(1, 20, 4, generator=generator) * 3
    small = torch.randn(1, 20, padded[0] // 4, padded[1] // 4, generator=generator) * 3
    large = torch.nn.functional.interpolate(small, size=padded, mode='bilinear', align_corners=False)
    settings = dict(num_things_classes=3, num_stuff_classes=0)
    settings['test_cfg'] = ConfigDict(panoptic_on=False, instance_on=True, max_per_image=30)
    ours, stock = (MODELS.build(dict(settings, type=f'{name}FusionHead')) for name in ('RLEMaskFormer', 'MaskFormer'))
    samples = [DetDataSample(metainfo=meta(padded, shape, scale))]
    expected = stock.predict(logits, large, samples, rescale=rescale)[0]['ins_results']
    for maps in (small, large):
        assert_same(ours.predict(logits, maps, samples, rescale=rescale)[0]['ins_results'], expected)
    ours.test_cfg.score_thr = 0.3
    few = ours.predict(logits, small, samples, rescale=rescale)[0]['ins_results']
    assert 0 < len(few) < len(expected) and few.scores.min() > 0.3
    assert few.masks == [
        code for code, score in zip(encode(expected.masks), expected.scores, strict=True) if score > 0.3
    ]


def test_mask2former_makes_no_panoptic_result():
    with pytest.raises(ValueError, match='panoptic_on=False'):
        MODELS.build(dict(type='RLEMaskFormerFusionHead', test_cfg=ConfigDict()))


@pytest.mark.parametrize(
    'kind, settings, strides', [('RTMDetInsSepBNHead', RTMDET, (8, 16, 32)), ('SOLOV2Head', SOLOV2, (4, 8, 16))]
)
def test_no_instance(kind, settings, strides):
    head, _ = pair(f'RLE{kind}', kind, settings)
    head.test_cfg.score_thr = 1.0
    info = meta((64, 64), (60, 50), 1.0)
    with torch.no_grad():
        (found,) = head.predict_by_feat(*head(features((64, 64), strides)), batch_img_metas=[info])
    assert found.masks == [] and len(found) == 0 and found.bboxes.shape == (0, 4)


@pytest.mark.parametrize('seed', range(3))
def test_codes_of_any_masks(seed, chunk_px):
    """Noise, empty masks, full ones, and masks that touch the border."""
    masks = (
        torch.rand(7, 30, 41, generator=torch.Generator().manual_seed(seed)) < torch.linspace(0, 1, 7)[:, None, None]
    )
    masks[1] = False
    codes = encode_maps(masks.__getitem__, chunks(7, (30, 41)))
    assert codes == encode(masks)
    assert torch.equal(code_boxes(codes), mask2bbox(masks))
