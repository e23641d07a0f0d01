import pytest
import torch
from mmdet.registry import MODELS
from torch.nn import functional as F

from cellseg_mm.models import CBAM


def reference(x, weights, eps=1e-5):
    """CBAM in plain tensor algebra, from the paper's equations and the authors' defaults, on one image at a time."""
    out = []
    for image in x:  # (C, H, W)
        squeezed = []
        for vector in (image.flatten(1).mean(1), image.flatten(1).max(1).values):
            hidden = (weights['channel_gate.mlp.0.weight'] @ vector + weights['channel_gate.mlp.0.bias']).clamp(min=0)
            squeezed.append(weights['channel_gate.mlp.2.weight'] @ hidden + weights['channel_gate.mlp.2.bias'])
        image = image * (1 / (1 + torch.exp(-(squeezed[0] + squeezed[1]))))[:, None, None]
        maps = torch.stack([image.max(0).values, image.sum(0) / len(image)])
        response = F.conv2d(F.pad(maps, (3, 3, 3, 3))[None], weights['spatial_gate.conv.weight'])[0, 0]
        mean, var = weights['spatial_gate.bn.running_mean'], weights['spatial_gate.bn.running_var']
        response = (response - mean) / (var + eps).sqrt()
        response = response * weights['spatial_gate.bn.weight'] + weights['spatial_gate.bn.bias']
        out.append(image * (1 / (1 + torch.exp(-response))))
    return torch.stack(out)


def randomised(module):
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.2, 1.0)
    return module


def test_forward_equals_the_reference():
    module = randomised(CBAM(32, reduction=4)).eval()
    x = torch.randn(2, 32, 9, 11)
    torch.testing.assert_close(module(x), reference(x, module.state_dict()))


@pytest.mark.parametrize('channels, count', [(256, 8_564), (512, 33_412), (1024, 132_260), (2048, 526_564)])
def test_parameters(channels, count):
    assert sum(parameter.numel() for parameter in CBAM(channels).parameters()) == count


def test_batch_norm_momentum_is_the_authors():
    assert CBAM(16).spatial_gate.bn.momentum == 0.01


def test_identity_start_is_the_identity_and_learns():
    module = CBAM(16, identity_init=True)
    x = torch.randn(2, 16, 5, 5, requires_grad=True)
    assert torch.equal(module(x), x)
    module(x).square().sum().backward()
    assert module.gamma.grad.abs() > 0
    with torch.no_grad():
        module.gamma.fill_(1)
    plain = CBAM(16)
    plain.load_state_dict({name: value for name, value in module.state_dict().items() if name != 'gamma'})
    torch.testing.assert_close(module.eval()(x), plain.eval()(x))


def test_deterministic_backward_and_autocast():
    module = MODELS.build(dict(type='CBAM', channels=16))
    x = torch.randn(2, 16, 6, 6)
    torch.use_deterministic_algorithms(True)
    try:
        module(x.requires_grad_()).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = module(x)
    assert out.isfinite().all() and out.shape == x.shape


@pytest.mark.cuda
def test_deterministic_backward_on_cuda():
    module, x = CBAM(64).cuda(), torch.randn(2, 64, 32, 32, device='cuda', requires_grad=True)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.autocast('cuda', dtype=torch.float16):
            module(x).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert x.grad.isfinite().all()
