import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from torch import nn

from cellseg_mm.models import AttentionResNet


def build(depth=18, **kwargs):
    return MODELS.build(dict(type='CBAMResNet', depth=depth, attention=dict(type='CBAM'), **kwargs))


def build_plain(depth, **kwargs):
    plain = ResNet(depth, **kwargs)
    plain.eval()  # returns None in mmdet
    return plain


def test_the_name_in_the_configs_and_that_of_the_class():
    assert MODELS.get('CBAMResNet') is MODELS.get('AttentionResNet') is AttentionResNet


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize('placement, extra', [('stage', 700_800), ('block', 2_532_592)])
def test_parameters_added_to_resnet_50(placement, extra):
    assert count(build(50, placement=placement)) - count(ResNet(50)) == extra


@pytest.mark.parametrize('placement', ['stage', 'block'])
@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
def test_every_depth_and_placement_keeps_the_shapes(depth, placement):
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outs = build(depth, placement=placement, base_channels=8).eval()(x)
        expected = build_plain(depth, base_channels=8)(x)
    assert [out.shape for out in outs] == [out.shape for out in expected]


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('placement', ['stage', 'block'])
def test_plain_weights_load_and_identity_start_gives_the_plain_output(depth, placement):
    plain = build_plain(depth)
    attended = build(depth, placement=placement).eval()
    missing, unexpected = attended.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert missing and all('attention' in name for name in missing)
    identity = MODELS.build(
        dict(type='CBAMResNet', depth=depth, attention=dict(type='CBAM', identity_init=True), placement=placement)
    ).eval()
    identity.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(identity(x), plain(x), strict=True):
            torch.testing.assert_close(ours, theirs)
        assert not torch.allclose(attended(x)[-1], plain(x)[-1])


class Double(nn.Module):
    """Replaces attention: twice the input, so that the output shows where it acts."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        assert x.shape[1] == self.channels
        return 2 * x


@pytest.mark.parametrize('depth', [18, 50])
def test_block_attention_acts_on_the_branch_before_the_add(depth):
    MODELS.register_module('Double', module=Double, force=True)
    attended = AttentionResNet(depth, attention=dict(type='Double'), placement='block').eval()
    plain = build_plain(depth)
    plain.load_state_dict(attended.state_dict())
    last = 'norm2' if depth == 18 else 'norm3'
    with torch.no_grad():  # doubling the last norm's scale and shift doubles the branch
        for name in plain.res_layers:
            for block in getattr(plain, name):
                getattr(block, last).weight.mul_(2)
                getattr(block, last).bias.mul_(2)
        x = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(attended(x), plain(x))


@pytest.mark.parametrize('placement', ['stage', 'block'])
def test_attention_trains_under_frozen_stages_and_norm_eval(placement):
    backbone = build(18, placement=placement, frozen_stages=4, norm_eval=True)
    for mode in (True, True):  # freezing happens again at each call
        assert backbone.train(mode) is backbone
    attention = {id(module) for root in backbone.attention_modules() for module in root.modules()}
    assert len(backbone.attention_modules()) == (4 if placement == 'stage' else 8)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.training == (id(module) in attention)
    trainable = {id(parameter) for parameter in backbone.parameters() if parameter.requires_grad}
    expected = {id(parameter) for root in backbone.attention_modules() for parameter in root.parameters()}
    assert trainable == expected
    backbone.eval()
    assert not any(module.training for module in backbone.modules())


@pytest.mark.parametrize('placement', ['stage', 'block'])
def test_gradient_checkpointing_changes_nothing(placement):
    plain = build(18, placement=placement).eval()
    saving = build(18, placement=placement, with_cp=True).eval()
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 64, 64)
    gradients = []
    for model in (plain, saving):
        leaf = x.clone().requires_grad_()
        model(leaf)[-1].square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_one_level_dilated():
    outs = build(18, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), out_indices=(3,))(torch.randn(2, 3, 64, 64))
    assert [tuple(out.shape) for out in outs] == [(2, 512, 4, 4)]


@pytest.mark.parametrize('kwargs', [dict(placement='neck'), dict(placement='block', plugins=[1])])
def test_refusals(kwargs):
    with pytest.raises(ValueError, match='placement'):
        AttentionResNet(50, attention=dict(type='CBAM'), **kwargs)
