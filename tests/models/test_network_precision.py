import copy

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from tiny_detector import random_detector, tiny_config

from cellseg_mm.models import CellTTAModel, bare_detector, network_precision
from cellseg_mm.models.layers import SparseRoIAlign


@pytest.fixture(scope='module')
def detector():
    cfg = tiny_config('maskrcnn_r18_fpn_cbam', rcnn=dict(score_thr=0.0, max_per_img=50))
    return random_detector(cfg)


@pytest.fixture
def batch(detector):
    inputs = demo_mm_inputs(2, [[3, 96, 96], [3, 64, 128]], num_items=[3, 2], num_classes=3, with_mask=True)
    return detector.data_preprocessor(inputs, training=True)


def losses(detector: torch.nn.Module, batch: dict) -> dict:
    torch.manual_seed(0)
    return detector.parse_losses(detector(**copy.deepcopy(batch), mode='loss'))[1]


def test_nothing_is_changed_after_it(detector, batch):
    before = {name: dict(vars(module)) for name, module in detector.named_modules()}
    weights = copy.deepcopy(detector.state_dict())
    plain = losses(detector, batch)
    with network_precision(detector, torch.bfloat16):
        assert float(losses(detector, batch)['loss']) != float(plain['loss'])
    with pytest.raises(KeyError), network_precision(detector, torch.bfloat16):
        raise KeyError
    assert {name: vars(module).keys() for name, module in detector.named_modules()} == {
        name: content.keys() for name, content in before.items()
    }
    assert all(torch.equal(value, weights[name]) for name, value in detector.state_dict().items())
    torch.testing.assert_close(losses(detector, batch), plain)


def test_what_leaves_the_network_is_float32(detector, batch):
    seen = []
    with network_precision(detector, torch.bfloat16):
        inner = detector.backbone.conv1.register_forward_hook(lambda *args: seen.append(args[2].dtype))
        maps = detector.extract_feat(batch['inputs'])
        scores, deltas = detector.rpn_head(maps)
        inner.remove()
    assert seen == [torch.bfloat16]
    assert {level.dtype for level in (*maps, *scores, *deltas)} == {torch.float32}


def test_losses_are_close_and_gradients_float32(detector, batch):
    plain = losses(detector, batch)
    with network_precision(detector, torch.bfloat16):
        torch.manual_seed(0)
        found = detector.parse_losses(detector(**copy.deepcopy(batch), mode='loss'))[0]
    found.backward()
    assert float(found) == pytest.approx(float(plain['loss']), rel=0.05)
    assert all(p.grad.dtype == torch.float32 for p in detector.parameters() if p.grad is not None)
    detector.zero_grad()


def test_float32_is_the_plain_model_but_for_the_order_of_sums(detector, batch):
    plain = losses(detector, batch)
    with network_precision(detector, torch.float32):
        found = losses(detector, batch)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)


def test_mmcvs_operators_get_contiguous_maps(detector, batch):
    """They take any memory for contiguous, silently."""
    stock = copy.deepcopy(detector)
    for extractor in (stock.roi_head.bbox_roi_extractor, stock.roi_head.mask_roi_extractor):
        for index, layer in enumerate(extractor.roi_layers):
            assert isinstance(layer, SparseRoIAlign)
            options = layer.output_size, layer.spatial_scale, layer.sampling_ratio
            extractor.roi_layers[index] = type(layer).__mro__[1](*options)
    with network_precision(stock, torch.float32):
        assert all(level.is_contiguous() for level in stock.extract_feat(batch['inputs']))
        found = losses(stock, batch)
    torch.testing.assert_close(found, losses(detector, batch), rtol=1e-4, atol=1e-4)


def test_depthwise_convolutions_stay_in_float32():
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 8, 3, groups=8))
    layer.extract_feat = layer.forward
    dtypes = []
    for part in layer:
        part.register_forward_hook(lambda *args: dtypes.append(args[2].dtype))
    with network_precision(layer, torch.bfloat16):
        layer.extract_feat(torch.randn(1, 3, 8, 8))
    assert dtypes == [torch.bfloat16, torch.float32]


def test_the_detector_in_a_wrapper(detector):
    assert bare_detector(CellTTAModel(module=detector)) is detector is bare_detector(detector)
