"""Training's precision on the device at hand, and its threads on a CPU: the fastest that a trial shows to be right."""

import copy
import os
import statistics
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
from cellseg_mm.models.detector_config import forget_pretrained
from cellseg_mm.utils import UserError, locked, parse_config_text, read_json, write_json

from .provenance import provenance

PRECISIONS = ('auto', 'fp32', 'bf16')
VARIABLE = 'CELLSEG_MM_PRECISION'  # environment variable: the meaning of auto
DTYPES = dict(fp32='float32', bf16='bfloat16')
TRIAL_STEPS, TRIAL_SECONDS = 4, 10  # at most, for each precision; the first step warms up
GAIN = 0.95  # bf16 may take at most this share of float32's time,
CLOSENESS = 0.05  # and its losses may differ by this share of float32's sum


def fit_precision_to_device(cfg: Config, precision: str = 'auto') -> None:
    """Choose the precision of a training run, on a CPU also the number of its threads, and print one line on why.

    On CUDA, AmpOptimWrapper stays as it is by default. On the CPU it becomes :class:`CPUAmpOptimWrapper`. Its ``dtype``
    is the config's if it has one (as the config of a run has), else bf16 if the processor has instructions for it and a
    trial of some steps shows that it is faster and that its losses are close to those of float32. The trial also shows
    whether one thread is as fast as all, as beside a busy program; the config's ``num_threads`` holds their number.

    Args:
        cfg (Config): Changed in place. A config with plain OptimWrapper stays in float32 unless bf16 is requested.
        precision (str): ``'auto'``, ``'fp32'`` or ``'bf16'``.

    Raises:
        UserError: If the config already has another precision than the requested one.
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
        raise UserError(f'--precision {precision}: the run to resume is in {settled}; leave the option out')
    asked = asked or (wrapper.get('dtype') if wrapper.get('dtype') in DTYPES.values() else None)
    if asked:
        dtype, reason = asked, 'as requested'
    else:
        dtype, cfg.num_threads, reason = _agree(cfg)
    _set_wrapper(cfg, 'CPUAmpOptimWrapper')
    wrapper.dtype = dtype
    if not settled:
        print(f'training on the CPU in {dtype}: {reason}', flush=True)
    if cfg.get('num_threads'):
        torch.set_num_threads(cfg.num_threads)


def _resolve(precision: str) -> str:
    """Replace ``'auto'`` by what the environment says, if it does."""
    if precision != 'auto':
        return precision
    precision = os.environ.get(VARIABLE, 'auto')
    if precision not in PRECISIONS:
        raise UserError(f'{VARIABLE}={precision}: choose from {", ".join(PRECISIONS)}')
    return precision


def share_precision(cfgs: list, out: Path, choose: bool) -> None:
    """Give all rows of an ablation one precision on a CPU: the folder's, or else what a trial of the first row chooses.

    Args:
        cfgs (list[Config]): Changed in place.
        out (Path): Folder of the ablation; its ``precision.json`` keeps the choice, so that the runs' digests stay.
        choose (bool): Whether to choose if the folder has no choice yet; runs on CUDA need none.
    """
    path = out / 'precision.json'
    if not path.exists():
        if not choose or torch.cuda.is_available() or cfgs[0].optim_wrapper.type == 'OptimWrapper':
            return
        out.mkdir(parents=True, exist_ok=True)
        with locked(out / 'precision.lock'):  # a second process waits here, and then takes the choice of the first
            if not path.exists():
                fit_precision_to_device(cfgs[0])
                found = dict(dtype=cfgs[0].optim_wrapper.dtype, num_threads=cfgs[0].get('num_threads'))
                write_json(path, dict(found, **provenance()))
    found = read_json(path, 'tools/ablate.py writes it')
    for cfg in cfgs:
        if cfg.optim_wrapper.type == 'AmpOptimWrapper':
            _set_wrapper(cfg, 'CPUAmpOptimWrapper')
            cfg.optim_wrapper.dtype = found['dtype']
        cfg.num_threads = found['num_threads']


def resume_precision(cfg: Config, checkpoint: dict) -> None:
    """Take over precision and threads from the run of a checkpoint, if that run was on a CPU.

    Args:
        cfg (Config): Changed in place.
        checkpoint (dict): From :func:`cellseg_mm.engine.checkpoint.read_checkpoint`.
    """
    trained = parse_config_text(checkpoint.get('meta', {}).get('cfg', ''))
    if trained.get('optim_wrapper', {}).get('type') == 'CPUAmpOptimWrapper':
        cfg.optim_wrapper.update(type='CPUAmpOptimWrapper', dtype=trained['optim_wrapper']['dtype'])
        cfg.num_threads = trained.get('num_threads')


def training_precision(runner: Runner) -> AbstractContextManager:
    """Within the block, the runner's model runs in the precision in which it trains on the CPU."""
    dtype = getattr(runner.optim_wrapper, 'dtype', None)
    return nullcontext() if dtype is None else network_precision(runner.model, dtype)


def inference_precision(model: torch.nn.Module, precision: str = 'auto') -> AbstractContextManager:
    """Within the block, a model on the CPU runs in this precision; a model on another device is left alone.

    Args:
        model (Module): A detector, or a wrapper of one.
        precision (str): ``'fp32'``, ``'bf16'``, or ``'auto'``: the environment variable ``CELLSEG_MM_PRECISION``, else
            bf16 where the processor has instructions for it.
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
        capabilities (dict | None): From ``torch.cpu.get_capabilities()``; this processor's by default.
    """
    if capabilities is None:
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, 'get_capabilities') else {}
    return bool(capabilities.get('avx512_bf16') or capabilities.get('amx_bf16'))


def _agree(cfg: Config) -> tuple:
    """The result of :func:`choose_way` in the first process, for all processes."""
    found = [choose_way(cfg) if is_main_process() else None]
    broadcast_object_list(found)
    return found[0]


def choose_way(cfg: Config) -> tuple:
    """The fastest precision and number of threads for the config's training steps on this CPU.

    The trial builds a model of its own and takes the first batch. It leaves the run's weights, statistics and random
    numbers alone.

    Args:
        cfg (Config): Ready for a Runner.

    Returns:
        tuple: ``'float32'`` or ``'bfloat16'``; the number of threads, None for torch's own; and the reason in words.
    """
    all_threads = torch.get_num_threads()
    may_choose = all_threads > 1 and 'OMP_NUM_THREADS' not in os.environ  # the user's choice stays
    dtype, reasons = 'float32', []
    if not has_bf16():
        reasons.append('this processor has no instructions for bf16')
        if not may_choose:
            return dtype, None, reasons[0]
    init_default_scope('mmdet')
    with torch.random.fork_rng():
        model, batch = _untrained_model(cfg), _first_batch(cfg)
        seconds, loss = _time_steps(model, batch, torch.float32, all_threads)
        if has_bf16():
            faster, other_loss = _time_steps(model, batch, torch.bfloat16, all_threads)
            difference = abs(other_loss - loss) / abs(loss)
            reasons.append(
                f'a step takes {seconds:.2f} s in fp32 and {faster:.2f} s in bf16, the losses differ by '
                f'{difference:.1%}'
            )
            if difference <= CLOSENESS and faster <= GAIN * seconds:  # not so for nan
                dtype, seconds = 'bfloat16', faster
        threads = None
        if may_choose:
            alone, _ = _time_steps(model, batch, getattr(torch, dtype), 1)
            threads = 1 if alone <= seconds else all_threads
            reasons.append(f'{seconds:.2f} s with {all_threads} threads, {alone:.2f} s with one: {threads} of them')
    return dtype, threads, '; '.join(reasons)


def _untrained_model(cfg: Config) -> torch.nn.Module:
    config = copy.deepcopy(cfg.model)
    forget_pretrained(config)
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    return model.train()


def _first_batch(cfg: Config) -> dict:
    loader = copy.deepcopy(cfg.train_dataloader)
    loader.update(num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    return next(iter(Runner.build_dataloader(loader, seed=0)))


def _time_steps(model: torch.nn.Module, batch: dict, dtype: torch.dtype, threads: int) -> tuple:
    """Median seconds of a forward and backward pass, without the first, and the sum of the losses."""
    times, all_threads = [], torch.get_num_threads()
    torch.set_num_threads(threads)
    while len(times) < TRIAL_STEPS and sum(times) < TRIAL_SECONDS:
        torch.manual_seed(0)  # of the samplers
        model.zero_grad()
        start = time.perf_counter()
        with network_precision(model, dtype):
            data = model.data_preprocessor(batch, True)
            loss, _ = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
        times.append(time.perf_counter() - start)
    torch.set_num_threads(all_threads)
    return statistics.median(times[1:] or times), loss.item()
