"""mmcv's own RoIAlign is the reference, beside cases whose values are known."""

from unittest import mock

import mmcv.ops
import numpy as np
import pytest
import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from pycocotools.mask import decode
from tiny_detector import draw, predict, random_detector, tiny_config

from cellseg_mm.models.layers import SparseRoIAlign
from cellseg_mm.models.layers.sparse_roi_align import axis_weights, pooling_matrix


def random_rois(rng: np.random.Generator, dtype: torch.dtype, num: int = 60) -> torch.Tensor:
    """On two images of 64x80 px: inside, across the border, far outside, of zero width, height or both."""
    starts, sizes = rng.uniform(-20, 90, (num, 2)), np.exp(rng.normal(2.5, 1, (num, 2)))
    starts, sizes = (part.round() if rng.random() < 0.5 else part for part in (starts, sizes))  # bins of whole px
    sizes[:9] *= [[0, 1]] * 3 + [[1, 0]] * 3 + [[0, 0]] * 3
    starts[9:12] += 500
    starts[12:15] -= 500
    images = rng.integers(0, 2, (num, 1))
    return torch.tensor(np.concatenate([images, starts, starts + sizes], axis=1), dtype=dtype)


def pool(layer: RoIAlign, features: torch.Tensor, rois: torch.Tensor) -> tuple:
    """Values, and the gradient at the features for the same gradient at the values."""
    features = features.detach().requires_grad_()
    pooled = layer(features, rois)
    pooled.backward(torch.randn(pooled.shape, dtype=pooled.dtype, generator=torch.Generator().manual_seed(1)))
    return pooled.detach(), features.grad


@pytest.fixture
def no_stock(monkeypatch):
    """Fail where mmcv's layer is asked in place of ours."""

    def forward(self: RoIAlign, *args) -> torch.Tensor:
        assert type(self) is RoIAlign, 'mmcv was asked'
        return stock(self, *args)

    stock = RoIAlign.forward
    monkeypatch.setattr(RoIAlign, 'forward', forward)


@pytest.mark.parametrize('memory', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_stock(dtype, memory, no_stock):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        stride = int(rng.choice([1, 4, 8]))
        features = torch.randn(2, 5, 64 // stride, 80 // stride, dtype=dtype, generator=torch.manual_seed(seed))
        rois = random_rois(rng, dtype)
        options = dict(
            output_size=(int(rng.choice([1, 3, 7])), int(rng.choice([2, 7, 14]))),
            spatial_scale=1 / stride,
            sampling_ratio=int(rng.choice([0, 0, 1, 2, 5])),
            aligned=bool(rng.random() < 0.7),
        )
        ours = pool(SparseRoIAlign(**options), features.contiguous(memory_format=memory), rois)
        stock = pool(RoIAlign(**options), features, rois)
        for found, expected in zip(ours, stock, strict=True):
            assert found.shape == expected.shape and found.dtype == expected.dtype
            # sums of both signs, in another order
            tolerance = dict(rtol=1e-5, atol=1e-5) if dtype == torch.float32 else dict(rtol=1e-12, atol=1e-12)
            scale = expected.abs().max()
            torch.testing.assert_close(found / scale, expected / scale, **tolerance)
        assert 0 < (stock[0] == 0).all(dim=(1, 2, 3)).sum() < 50


def test_known_values():
    """Away from the border the mean of a linear function over a bin is its value at the bin's centre."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing='ij')
    features = (3 * y - 2 * x + 7)[None, None]
    rois = torch.tensor([[0, 4.0, 6.0, 22.5, 16.0], [0, 3.25, 2.5, 9.5, 5.0]])
    pooled = SparseRoIAlign((4, 5))(features, rois)
    for roi, values in zip(rois.tolist(), pooled, strict=True):
        _, x1, y1, x2, y2 = roi
        rows = y1 + (torch.arange(4) + 0.5) * (y2 - y1) / 4 - 0.5
        cols = x1 + (torch.arange(5) + 0.5) * (x2 - x1) / 5 - 0.5
        torch.testing.assert_close(values[0], 3 * rows[:, None] - 2 * cols + 7, rtol=0, atol=1e-5)


def test_bins_on_whole_pixels():
    """A bin of 2x2 px with samples at the pixels' centres is their mean, and shares its gradient among them."""
    features = torch.arange(64.0).reshape(1, 1, 8, 8)
    pooled, gradient = pool(SparseRoIAlign(2), features, torch.tensor([[0, 2.0, 2.0, 6.0, 6.0]]))
    assert pooled[0, 0].tolist() == torch.nn.functional.avg_pool2d(features[0, 0, 2:6, 2:6][None], 2)[0].tolist()
    given = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(gradient[..., 2:6, 2:6], given.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4)
    assert gradient.count_nonzero() == 16


def test_weights_along_an_axis():
    """Samples at -0.25, 0.25, 5.5 and 9 of 6 px: clipped to the first, shared, clipped to the last, outside."""
    starts, bins = np.array([-0.5, 5.25, 8.75]), np.array([0.5, 0.5, 0.5])
    pixels, weights = axis_weights(starts, bins, grid=1, count=2, length=6)
    dense = np.zeros((3, 2, 6))
    for roi, row in np.ndindex(3, 2):
        np.add.at(dense[roi, row], pixels[roi, row], weights[roi, row])
    expected = [[[1, 0, 0, 0, 0, 0], [0.75, 0.25, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1]], [[0] * 6] * 2]
    assert dense.tolist() == expected


def test_weights_of_a_bin_sum_to_the_share_of_its_samples_on_the_map():
    rois = np.array([[0, 3, 4, 21, 15], [1, -10, 0, 10, 8]], np.float32)
    sums = pooling_matrix(rois, (2, 16, 24), (2, 2), 1.0, 0, True).sum(axis=1).reshape(2, 2, 2)
    np.testing.assert_allclose(sums[0], 1, rtol=1e-6)
    # samples 1 px apart from x = -10 on: those at -10 to -2 lie off the map, that at -1 still counts
    np.testing.assert_allclose(sums[1], [[0.1, 1]] * 2, rtol=1e-6)


def test_gradient():
    rois = random_rois(np.random.default_rng(0), torch.float64, 20)
    features = torch.randn(2, 2, 8, 10, dtype=torch.float64, requires_grad=True)
    layer = SparseRoIAlign((2, 3), spatial_scale=1 / 8)
    assert torch.autograd.gradcheck(lambda features: layer(features, rois), (features,))


def test_no_rois():
    for layer in (RoIAlign(7), SparseRoIAlign(7)):
        pooled, gradient = pool(layer, torch.randn(1, 3, 8, 8), torch.zeros(0, 5))
        assert pooled.shape == (0, 3, 7, 7) and gradient.shape == (1, 3, 8, 8) and not gradient.any()


def test_channels_last_is_neither_copied_nor_lost():
    features = torch.randn(1, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    with mock.patch.object(torch.Tensor, 'contiguous', side_effect=AssertionError), torch.no_grad():
        pooled = SparseRoIAlign(2)(features, torch.tensor([[0, 0.0, 0.0, 4.0, 4.0]]))
    assert pooled.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('options', [dict(pool_mode='max'), dict(dtype=torch.float16)])
def test_leaves_the_rest_to_stock(options):
    """Channels in channels_last too, which mmcv itself would misread."""
    dtype = options.pop('dtype', torch.float32)
    features = torch.randn(2, 3, 64, 80).to(dtype)
    rois = random_rois(np.random.default_rng(0), torch.float32).clamp(min=0).to(dtype)
    expected = RoIAlign(4, **options)(features, rois)
    found = SparseRoIAlign(4, **options)(features.contiguous(memory_format=torch.channels_last), rois)
    assert torch.equal(found, expected)


@pytest.mark.cuda
def test_cuda_is_left_to_stock():
    features = torch.randn(2, 3, 64, 80).cuda()
    rois = random_rois(np.random.default_rng(0), torch.float32).cuda()
    assert torch.equal(SparseRoIAlign(4)(features, rois), RoIAlign(4)(features, rois))


@pytest.mark.parametrize('roi', [[0, 5.0, 5.0, 4.0, 9.0], [0, 0.0, float('nan'), 4.0, 9.0]])
def test_refuses_what_stock_refuses(roi):
    for layer in (RoIAlign(7), SparseRoIAlign(7)):
        with pytest.raises(RuntimeError, match='non-negative size'):
            layer(torch.randn(1, 3, 8, 8), torch.tensor([roi]))


def test_mmdet_builds_it():
    extractor = SingleRoIExtractor(dict(type='SparseRoIAlign', output_size=7, sampling_ratio=0), 8, [4, 8])
    assert [type(layer) for layer in extractor.roi_layers] == [mmcv.ops.SparseRoIAlign] * 2
    assert [layer.spatial_scale for layer in extractor.roi_layers] == [1 / 4, 1 / 8]
    assert 'SparseRoIAlign(output_size=(7, 7)' in repr(extractor)


@pytest.mark.parametrize('row', ['maskrcnn_r18', 'maskrcnn_r18_fpn_cbam'])
def test_a_detector_finds_the_same(row, tmp_path):
    found = []
    for name in ('RoIAlign', 'SparseRoIAlign'):
        cfg = tiny_config(row, rcnn=dict(score_thr=0.1))
        for extractor in (cfg.model.roi_head.bbox_roi_extractor, cfg.model.roi_head.mask_roi_extractor):
            assert extractor.roi_layer.type == 'SparseRoIAlign'  # the default
            extractor.roi_layer.type = name
        found.append(predict(cfg, random_detector(cfg), draw(1, 128, 128), tmp_path / 'image.png'))
    stock, ours = found
    assert len(ours) == len(stock) > 50 and torch.equal(ours.labels, stock.labels)
    torch.testing.assert_close(ours.bboxes, stock.bboxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(ours.scores, stock.scores, rtol=0, atol=1e-5)
    ours, stock = (np.stack([decode(code) for code in part.masks]) for part in found[::-1])
    assert (ours != stock).mean() < 1e-4
