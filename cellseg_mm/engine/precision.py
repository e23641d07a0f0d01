"""Training's precision on the device at hand: mixed precision where it is faster and right, else float32."""

import copy
import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from cellseg_mm.models import network_precision
from cellseg_mm.utils import UserError, parse_config_text, read_json, write_json

from .provenance import provenance

PRECISIONS = ('auto', 'fp32', 'bf16')
VARIABLE = 'CELLSEG_MM_PRECISION'  # of the environment: what auto means
DTYPES = dict(fp32='float32', bf16='bfloat16')
TRIAL_STEPS, TRIAL_SECONDS = 4, 10  # of each precision at most; the first step warms up
GAIN = 0.95  # bf16 has to take at most so much of float32's time,
CLOSENESS = 0.05  # and its losses may differ by so much of float32's sum


def fit_precision_to_device(cfg: Config, precision: str = 'auto') -> None:
    """Settle the precision of a training run, and say in one line which and why.

    On CUDA, AmpOptimWrapper stays as it is by default. On the CPU it becomes :class:`CPUAmpOptimWrapper`. Its ``dtype``
    is that of the config if it has one (as the config of a run has), else bf16 if the processor has instructions for it
    and a trial of some steps shows it to be faster and its losses to be close to those of float32.

    Args:
        cfg (Config): Changed in place. A config with plain OptimWrapper stays in float32, unless told otherwise.
        precision (str): ``'auto'``, ``'fp32'`` or ``'bf16'``.

    Raises:
        UserError: If the config has settled on another precision than the one that is asked for.
    """
    wrapper, precision = cfg.optim_wrapper, _resolve(precision)
    if torch.cuda.is_available():
        if precision == 'fp32':
            _set_wrapper(cfg, 'OptimWrapper')
        elif precision == 'bf16':
            wrapper.update(type='AmpOptimWrapper', dtype='bfloat16')
        return
    asked = DTYPES.get(precision)
    if wrapper.type == 'OptimWrapper' and asked != 'bfloat16':
        return
    settled = wrapper.get('dtype') if wrapper.type == 'CPUAmpOptimWrapper' else None
    if settled and asked not in (None, settled):
        raise UserError(f'--precision {precision}: the run that goes on is in {settled}; leave the option out')
    asked = asked or (wrapper.get('dtype') if wrapper.get('dtype') in DTYPES.values() else None)
    dtype, reason = (asked, 'as asked for') if asked else _agree(cfg)
    _set_wrapper(cfg, 'CPUAmpOptimWrapper')
    wrapper.dtype = dtype
    if not settled:
        print(f'training on the CPU in {dtype}: {reason}', flush=True)


def _resolve(precision: str) -> str:
    """What ``'auto'`` means: the environment may say it."""
    if precision != 'auto':
        return precision
    precision = os.environ.get(VARIABLE, 'auto')
    if precision not in PRECISIONS:
        raise UserError(f'{VARIABLE}={precision}: choose from {", ".join(PRECISIONS)}')
    return precision


def share_precision(cfgs: list, out: Path, choose: bool) -> None:
    """Give all rows of an ablation one precision on a CPU: that of its folder, or one chosen by a trial of the first.

    Args:
        cfgs (list[Config]): Changed in place.
        out (Path): Folder of the ablation; ``precision.json`` there keeps the choice, so that the runs' digests stay.
        choose (bool): Whether to choose where nothing is chosen yet; runs on CUDA need no choice.
    """
    path = out / 'precision.json'
    if not path.exists():
        if not choose or torch.cuda.is_available() or cfgs[0].optim_wrapper.type == 'OptimWrapper':
            return
        fit_precision_to_device(cfgs[0])
        write_json(path, dict(dtype=cfgs[0].optim_wrapper.dtype, **provenance()))
    dtype = read_json(path, 'tools/ablate.py writes it')['dtype']
    for cfg in cfgs:
        if cfg.optim_wrapper.type == 'AmpOptimWrapper':
            _set_wrapper(cfg, 'CPUAmpOptimWrapper')
            cfg.optim_wrapper.dtype = dtype


def resume_precision(cfg: Config, checkpoint: dict) -> None:
    """Go on in the precision of the run that a checkpoint is of, where that run was on a CPU.

    Args:
        cfg (Config): Changed in place.
        checkpoint (dict): Of :func:`cellseg_mm.engine.checkpoint.read_checkpoint`.
    """
    wrapper = parse_config_text(checkpoint['meta']['cfg'])['optim_wrapper']
    if wrapper['type'] == 'CPUAmpOptimWrapper':
        cfg.optim_wrapper.update(type=wrapper['type'], dtype=wrapper['dtype'])


def training_precision(runner: Runner) -> AbstractContextManager:
    """Within the block, the runner's model works in the precision in which it trains on the CPU."""
    dtype = getattr(runner.optim_wrapper, 'dtype', None)
    return nullcontext() if dtype is None else network_precision(runner.model, dtype)


def inference_precision(model: torch.nn.Module, precision: str = 'auto') -> AbstractContextManager:
    """Within the block, a model that lies on the CPU finds cells in a precision; one on another device is left alone.

    Args:
        model (Module): A detector, or a wrapper of one.
        precision (str): ``'fp32'``, ``'bf16'``, or ``'auto'``: what the environment says in ``CELLSEG_MM_PRECISION``,
            else bf16 where the processor has instructions for it.
    """
    if next(model.parameters()).device.type != 'cpu':
        return nullcontext()
    precision = _resolve(precision)
    if precision == 'auto':
        precision = 'bf16' if has_bf16() else 'fp32'
    return network_precision(model, getattr(torch, DTYPES[precision]))


def _set_wrapper(cfg: Config, kind: str) -> None:
    cfg.optim_wrapper.type = kind
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        cfg.optim_wrapper.pop(key, None)


def has_bf16(capabilities: dict | None = None) -> bool:
    """Whether the processor computes in bf16 itself (AVX512-BF16 or AMX).

    Args:
        capabilities (dict | None): As ``torch.cpu.get_capabilities()`` gives them; this processor's by default.
    """
    if capabilities is None:
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, 'get_capabilities') else {}
    return bool(capabilities.get('avx512_bf16') or capabilities.get('amx_bf16'))


def _agree(cfg: Config) -> tuple:
    """The dtype's name and the reason, as the first of all processes finds them."""
    found = [choose_dtype(cfg) if is_main_process() else None]
    broadcast_object_list(found)
    return found[0]


def choose_dtype(cfg: Config) -> tuple:
    """The faster right precision for the config's training steps on this CPU.

    A model of its own is tried on the first batch: the run's weights, statistics and random numbers are not touched.

    Args:
        cfg (Config): Ready for a Runner.

    Returns:
        tuple: ``'float32'`` or ``'bfloat16'``, and the reason in words.
    """
    if not has_bf16():
        return 'float32', 'this processor has no instructions for bf16'
    init_default_scope('mmdet')
    with torch.random.fork_rng():
        model = _untrained_model(cfg)
        batch = _first_batch(cfg)
        seconds, losses = {}, {}
        for dtype in (torch.float32, torch.bfloat16):
            seconds[dtype], losses[dtype] = _time_steps(model, batch, dtype)
    difference = abs(losses[torch.bfloat16] - losses[torch.float32]) / abs(losses[torch.float32])
    ratio = seconds[torch.bfloat16] / seconds[torch.float32]
    facts = (
        f'a step takes {seconds[torch.float32]:.2f} s in fp32 and {seconds[torch.bfloat16]:.2f} s in bf16, the losses '
        f'differ by {difference:.1%}'
    )
    right = difference <= CLOSENESS  # false for nan as well
    return ('bfloat16' if right and ratio <= GAIN else 'float32'), facts


def _untrained_model(cfg: Config) -> torch.nn.Module:
    config = copy.deepcopy(cfg.model)
    config.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    return model.train()


def _first_batch(cfg: Config) -> dict:
    loader = copy.deepcopy(cfg.train_dataloader)
    loader.update(num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    return next(iter(Runner.build_dataloader(loader, seed=0)))


def _time_steps(model: torch.nn.Module, batch: dict, dtype: torch.dtype) -> tuple:
    """Least seconds of forward and backward pass, for other programs may be at work; and the sum of the losses."""
    times = []
    while len(times) < TRIAL_STEPS and sum(times) < TRIAL_SECONDS:
        torch.manual_seed(0)  # of the samplers
        model.zero_grad()
        start = time.perf_counter()
        with network_precision(model, dtype):
            data = model.data_preprocessor(batch, True)
            loss, _ = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
        times.append(time.perf_counter() - start)
    return min(times), loss.item()
