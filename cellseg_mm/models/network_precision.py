"""The network of a detector in bf16 on a CPU, with outputs in float32."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmcv.ops import RoIAlign
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from .layers import SparseRoIAlign

# heads whose forward() is convolutions and linear layers alone, as it is throughout mmdet
HEADS = ('rpn_head', 'bbox_head', 'mask_head')


def bare_detector(model: nn.Module) -> nn.Module:
    """The detector inside a wrapper of several processes or of test-time augmentation, or the model itself."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


@contextmanager
def network_precision(model: nn.Module, dtype: torch.dtype) -> Iterator:
    """Within the block, run the detector's network on the CPU in ``dtype``; its outputs are float32.

    The network is ``extract_feat`` (backbone and neck) and each head's ``forward``. What lies between, such as
    RoIAlign, NMS, box coding, targets and losses, gets float32: mmcv's operators have no bf16 on the CPU. Depthwise
    convolutions stay in float32: their backward pass is several times slower in bf16 (oneDNN as of torch 2.13).

    Args:
        model (BaseDetector): A detector of mmdet, or a wrapper of one. Its weights stay ``channels_last`` after the
            block; all else is as before.
        dtype (torch.dtype): ``torch.bfloat16`` or ``torch.float32``.
    """
    detector = bare_detector(model)
    detector.to(memory_format=torch.channels_last)
    # mmcv's operators read any memory as contiguous, and the network's outputs are not
    layers = [module for module in detector.modules() if isinstance(module, RoIAlign)]
    contiguous = not layers or not all(isinstance(layer, SparseRoIAlign) for layer in layers)
    run = functools.partial(_run, dtype, contiguous)
    parts = {(detector, 'extract_feat'): functools.partial(run, detector.extract_feat)}
    for name, module in detector.named_modules():
        if _is_head(name) and not isinstance(module, nn.ModuleList):
            parts[module, 'forward'] = functools.partial(run, module.forward)
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


def _run(dtype: torch.dtype, contiguous: bool, method: Callable, *args, **kwargs) -> object:
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        return _to_float32(method(*args, **kwargs), contiguous)


def _run_in_float32(forward: Callable, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast('cpu', enabled=False):
        return forward(x.float())


def _to_float32(value: object, contiguous: bool) -> object:
    if isinstance(value, torch.Tensor):
        value = value.float() if value.is_floating_point() else value
        return value.contiguous() if contiguous else value
    if isinstance(value, (list, tuple)):
        return type(value)(_to_float32(entry, contiguous) for entry in value)
    return value
