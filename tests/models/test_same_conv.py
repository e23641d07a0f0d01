import pytest
import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding

from cellseg_mm.models import SameConv2d


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('groups', [1, 6])
@pytest.mark.parametrize('kernel, stride', [(1, 1), (3, 1), (3, 2), (5, 1), (5, 2)])
def test_values_and_gradients_are_those_of_mmcv(kernel, stride, groups, channels_last):
    torch.manual_seed(kernel * 10 + stride)
    reference = Conv2dAdaptivePadding(6, 6, kernel, stride, groups=groups, bias=False).double()
    ours = SameConv2d(6, 6, kernel, stride, groups=groups, bias=False).double()
    ours.load_state_dict(reference.state_dict())
    for size in ((8, 12), (9, 7)):
        x = torch.randn(2, 6, *size, dtype=torch.float64)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        results = []
        for layer in (reference, ours):
            own = x.clone().requires_grad_()
            y = layer(own)
            gradients = torch.autograd.grad((y * torch.arange(y.numel()).view(y.shape)).sum(), [own, layer.weight])
            results.append([y, *gradients])
        for expected, found in zip(*results, strict=True):
            torch.testing.assert_close(found, expected)


def test_gradients_that_are_not_wanted():
    layer = SameConv2d(4, 4, 5, groups=4, bias=False)
    layer.weight.requires_grad_(False)
    x = torch.randn(1, 4, 6, 6, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None
