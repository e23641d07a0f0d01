import safetensors.torch
import torch

from cellseg_mm.utils import UserError

# of BatchNorm; they may exceed float16 or vanish in it, and take little space
STATISTICS = ('running_mean', 'running_var')


def to_safetensors(state_dict: dict, notes: dict, half: bool = False) -> bytes:
    """The content of a file of weights for :func:`read_checkpoint`.

    Args:
        state_dict (dict[str, Tensor]): A model's.
        notes (dict[str, str]): From :func:`metadata`.
        half (bool): Floating-point weights as float16, except :data:`STATISTICS`.

    Raises:
        UserError: If a weight is too large for float16.
    """
    weights = {}
    for name, value in state_dict.items():
        is_rounded = half and value.is_floating_point() and not name.endswith(STATISTICS)
        stored = value.to(torch.float16) if is_rounded else value.clone()
        if not torch.equal(stored.isfinite(), value.isfinite()):
            raise UserError(f'{name} is up to {value.abs().max():.3g}, too large for float16; leave out --half')
        weights[name] = stored.contiguous()
    return safetensors.torch.save(weights, notes)
