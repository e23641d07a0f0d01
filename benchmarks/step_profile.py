#!/usr/bin/env python3
"""Where a training step of a small detector on the CPU spends its time, by kind of operation, ours against stock.

ours: tools/train.py's way, the network in bf16 where the processor can. ours, fp32: the same in float32. stock: the
same weights and batch in float32, mmcv's nms and RoIAlign, mmdet's assigner. Milliseconds of one thread, means of
several steps by torch's profiler; "Python and the rest" is what no operation of torch accounts for, such as NumPy.
"""

import argparse
import contextlib
import copy
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from common import print_table
from cpu import TRAINED, draw_prepared, use_stock_parts
from mmdet.registry import MODELS
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.profiler import ProfilerActivity, profile, record_function

from cellseg_mm.engine.run_config import training_config
from cellseg_mm.models import network_precision
from cellseg_mm.utils import PROJECT_ROOT, keep_freed_memory

# the first kind whose word is in an operation's name takes its time
KINDS = {
    'NMS': ('NMS',),
    'RoIAlign': ('RoIAlign',),
    'convolution, backward': ('convolution_backward', 'mkldnn_convolution_backward'),
    'convolution, forward': ('conv',),
    'linear layers': ('addmm', 'linear', 'aten::mm'),
    'BatchNorm': ('batch_norm',),
    'casts and copies': ('aten::copy_', 'aten::_to_copy', 'contiguous', 'aten::cat', 'aten::clone'),
    'optimizer': ('adam', 'Optimizer', '_foreach'),
}
REST = 'other operations'
PYTHON = 'Python and the rest'


@contextlib.contextmanager
def marked() -> Iterator:
    """Within the block, the profiler sees NMS and RoIAlign as operations of these names."""
    import mmcv.ops.nms as nms
    from mmcv.ops import RoIAlign

    from cellseg_mm.models.layers import SparseRoIAlign

    def mark(function: object, name: str) -> object:
        @functools.wraps(function)
        def inner(*args: object, **kwargs: object) -> object:
            with record_function(name):
                return function(*args, **kwargs)

        return inner

    places = [(nms, name, 'NMS') for name in ('nms', 'sparse_nms') if hasattr(nms, name)]
    places += [(layer, 'forward', 'RoIAlign') for layer in (RoIAlign, SparseRoIAlign) if 'forward' in vars(layer)]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for owner, name, kind in places:
        setattr(owner, name, mark(getattr(owner, name), kind))
    try:
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def milliseconds(step: object, steps: int) -> dict:
    """Mean milliseconds of each kind in a step, after two to warm up."""
    for _ in range(2):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            with record_function('step'):
                step()
    found = dict.fromkeys([*KINDS, REST, PYTHON], 0.0)
    for event in profiler.key_averages():
        if event.key == 'step':
            kind = PYTHON
        else:
            kind = next((kind for kind, words in KINDS.items() if any(word in event.key for word in words)), REST)
        found[kind] += event.self_cpu_time_total / 1000 / steps
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=TRAINED, help='a path in the project (default: %(default)s)')
    parser.add_argument('--data', type=Path, help='a prepared set (default: drawn tissue)')
    parser.add_argument('--steps', type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    init_default_scope('mmdet')
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or draw_prepared(Path(folder))
        options = {'data_root': str(data), 'train_dataloader.num_workers': 0}
        options['train_dataloader.persistent_workers'] = False
        cfg = training_config(str(PROJECT_ROOT / args.config), options, folder, from_scratch=True)
        batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
        columns = {}
        for name, dtype in (('ours', torch.bfloat16), ('ours, fp32', torch.float32), ('stock', None)):
            model_cfg = copy.deepcopy(cfg.model)
            if name == 'stock':
                use_stock_parts(model_cfg)
                for stage in (model_cfg.train_cfg.rpn, model_cfg.train_cfg.rcnn):
                    stage.assigner.type = 'MaxIoUAssigner'
            torch.manual_seed(0)
            model = MODELS.build(model_cfg).train()
            model.init_weights()
            optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.0))

            def step(model: torch.nn.Module = model, optimizer: OptimWrapper = optimizer) -> None:
                torch.manual_seed(0)
                model.train_step(copy.deepcopy(batch), optimizer)

            with marked(), network_precision(model, dtype) if dtype else contextlib.nullcontext():
                columns[name] = milliseconds(step, args.steps)
    rows = [[kind, *(f'{column[kind]:.0f}' for column in columns.values())] for kind in columns['ours']]
    totals = {name: sum(column.values()) for name, column in columns.items()}
    rows.append(['all', *(f'{total:.0f}' for total in totals.values())])
    print_table(['kind, ms', *columns], rows)
    print(f'ratio {totals["stock"] / totals["ours"]:.2f}')


if __name__ == '__main__':
    main()
