import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from cellseg_mm.models import ECA, SE, AttentionResNet, AttentionResNeXt, EfficientNetLite
from cellseg_mm.models.layers import build_attention

X = torch.randn(2, 32, 5, 7, generator=torch.Generator().manual_seed(0))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_se_by_hand():
    """One channel of the output after another, from the formula of the paper."""
    se = SE(32, reduction=4)
    first, last = se.mlp[0], se.mlp[2]
    assert first.weight.shape == (8, 32) and count(se) == 2 * 32 * 8 + 8 + 32
    mean = X.flatten(2).mean(2)
    for sample, out in enumerate(se(X)):
        hidden = [torch.relu(row @ mean[sample] + bias) for row, bias in zip(first.weight, first.bias, strict=True)]
        for channel, (row, bias) in enumerate(zip(last.weight, last.bias, strict=True)):
            gate = torch.sigmoid(sum(weight * unit for weight, unit in zip(row, hidden, strict=True)) + bias)
            torch.testing.assert_close(out[channel], X[sample, channel] * gate)


def test_eca_by_hand():
    """Each channel sees its neighbours alone, zeros beyond the ends, by one kernel for all."""
    eca = ECA(32)
    (kernel,) = eca.conv.weight[0]
    assert count(eca) == len(kernel) == 3
    mean = nn.functional.pad(X.flatten(2).mean(2), (1, 1))
    for channel in range(32):
        gate = torch.sigmoid((mean[:, channel : channel + 3] * kernel).sum(1))
        torch.testing.assert_close(eca(X)[:, channel], X[:, channel] * gate[:, None, None])


@pytest.mark.parametrize(
    'channels, size', [(1, 1), (16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)]
)
def test_the_kernel_of_eca_grows_with_the_channels(channels, size):
    """The values of the authors' code: int(abs((log2(channels) + 1) / 2)), and one more if that is even."""
    assert ECA(channels).conv.kernel_size == (size,)
    assert ECA(channels)(torch.ones(1, channels, 2, 2)).shape == (1, channels, 2, 2)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match='kernel_size=4: must be odd'):
        ECA(64, kernel_size=4)


def test_a_name_is_enough():
    assert type(build_attention('SE', 48)) is type(build_attention(dict(type='SE'), 48)) is SE
    assert build_attention(dict(type='SE', reduction=4), 48).mlp[0].out_features == 12


BACKBONES = [
    dict(type='AttentionResNet', depth=18),
    dict(type='AttentionResNet', depth=50, placement='block'),
    dict(type='AttentionResNeXt', depth=50, groups=32, base_width=4),
    dict(type='AttentionResNeXt', depth=50, groups=32, base_width=4, placement='block'),
    dict(type='EfficientNetLite'),
]


@pytest.mark.parametrize('backbone', BACKBONES, ids=lambda backbone: '-'.join(map(str, backbone.values())))
@pytest.mark.parametrize('attention', ['CBAM', 'SE', 'ECA'])
def test_any_attention_in_any_backbone_by_one_key(backbone, attention):
    """With the weights of the plain backbone, and gates that are open, the output is the plain backbone's."""
    attended = MODELS.build(dict(backbone, attention=attention))
    plain = {key: value for key, value in backbone.items() if key != 'placement'}
    plain = MODELS.build(dict(plain, type=plain['type'].removeprefix('Attention')))
    blocks = [module for module in attended.modules() if type(module).__name__ == attention]
    of_blocks = {18: 8, 50: 16}.get(backbone.get('depth'))
    assert len(blocks) == (of_blocks if backbone.get('placement') == 'block' else 4)
    missing, unexpected = attended.load_state_dict(plain.state_dict(), strict=False)
    assert missing and not unexpected and all('attention' in name for name in missing)
    attended.eval()
    plain.train(False)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = plain(x)
        assert not torch.equal(attended(x)[-1], expected[-1])
        for block in blocks:
            block.forward = lambda features: features
        for ours, theirs in zip(attended(x), expected, strict=True):
            assert torch.equal(ours, theirs)


def test_the_classes_are_those_of_the_names():
    assert MODELS.get('CBAMResNet') is MODELS.get('AttentionResNet') is AttentionResNet
    assert MODELS.get('AttentionResNeXt') is AttentionResNeXt and MODELS.get('EfficientNetLite') is EfficientNetLite
