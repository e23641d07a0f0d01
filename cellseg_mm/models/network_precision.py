"""The network of a detector in bf16 on a CPU, what it hands on in float32."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

# heads whose forward() is convolutions and linear layers alone, as it is throughout mmdet
HEADS = ('rpn_head', 'bbox_head', 'mask_head')


def bare_detector(model: nn.Module) -> nn.Module:
    """The detector inside a wrapper of several processes or of test-time augmentation, or the model itself."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


@contextmanager
def network_precision(model: nn.Module, dtype: torch.dtype) -> Iterator:
    """Within the block, run the detector's network on the CPU in ``dtype``; its outputs are contiguous float32.

    The network is ``extract_feat`` (backbone and neck) and each head's ``forward``. What lies between, such as
    RoIAlign, NMS, box coding, targets and losses, gets float32: mmcv's operators have no bf16 on the CPU, and expect
    contiguous tensors where a network in ``channels_last`` returns others. Depthwise convolutions stay in float32:
    their backward pass is several times slower in bf16 (oneDNN as of torch 2.13).

    Args:
        model (BaseDetector): Of mmdet, or a wrapper of one. Its weights become ``channels_last`` for good; nothing else
            has changed after the block.
        dtype (torch.dtype): ``torch.bfloat16`` or ``torch.float32``.
    """
    detector = bare_detector(model)
    detector.to(memory_format=torch.channels_last)
    parts = {(detector, 'extract_feat'): functools.partial(_run, detector.extract_feat, dtype)}
    for name, module in detector.named_modules():
        if _is_head(name) and not isinstance(module, nn.ModuleList):
            parts[module, 'forward'] = functools.partial(_run, module.forward, dtype)
        elif isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            parts[module, 'forward'] = functools.partial(_run_in_float32, module.forward)
    for (owner, name), method in parts.items():
        setattr(owner, name, method)
    try:
        yield
    finally:
        for owner, name in parts:
            delattr(owner, name)


def _is_head(name: str) -> bool:
    """Whether a module of this dotted name is a head, or one of a cascade's heads."""
    *_, above, last = ('', *name.split('.'))
    return last in HEADS or (last.isdigit() and above in HEADS)


def _run(method: Callable, dtype: torch.dtype, *args, **kwargs) -> object:
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        return _to_plain(method(*args, **kwargs))


def _run_in_float32(forward: Callable, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast('cpu', enabled=False):
        return forward(x.float())


def _to_plain(value: object) -> object:
    """Floating-point tensors as contiguous float32."""
    if isinstance(value, torch.Tensor):
        return value.float().contiguous() if value.is_floating_point() else value
    if isinstance(value, (list, tuple)):
        return type(value)(_to_plain(entry) for entry in value)
    return value
