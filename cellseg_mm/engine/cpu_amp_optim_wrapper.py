from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.optim import OptimWrapper

from cellseg_mm.models import network_precision


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """AmpOptimWrapper's counterpart on a CPU: the network runs in ``dtype``, see :func:`network_precision`.

    There is no GradScaler: bf16 has float32's range, so gradients need no scaling. Weights, gradients and moments are
    float32.

    Args:
        dtype (str): ``'bfloat16'`` or ``'float32'``; with ``'float32'`` only the weights' memory format differs from
            training with OptimWrapper.
        **kwargs: As for :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(self, dtype: str = 'bfloat16', **kwargs) -> None:
        super().__init__(**kwargs)
        self.dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator:
        """A training step's forward pass in :attr:`dtype`."""
        with super().optim_context(model), network_precision(model, self.dtype):
            yield
