#!/usr/bin/env python3
"""Train a detector as MMDetection does.

Training starts from ImageNet weights (default), from ImageNet weights in a file (--backbone-weights), from random
weights (--from-scratch: nothing frozen, BatchNorm trains), or from a checkpoint (--load-from: fine-tuning).
"""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from cellseg_mm.arguments import (
    add_budget,
    add_config_changes,
    add_launcher,
    add_precision,
    add_starting_weights,
    tool_parser,
)
from cellseg_mm.engine.ablation import Row
from cellseg_mm.engine.budget import SCHEDULE, set_epochs, take_schedule
from cellseg_mm.engine.checkpoint import check_disk_space
from cellseg_mm.engine.launcher import set_launcher
from cellseg_mm.engine.precision import fit_precision_to_device
from cellseg_mm.engine.provenance import record_provenance
from cellseg_mm.engine.run_config import resume_run, training_config
from cellseg_mm.engine.starting_weights import check_starting_weights, check_weights_fit, fetch_backbone_weights
from cellseg_mm.utils import UserError, claimed, keep_freed_memory, one_line_errors, output_folder, remove_partial
from cellseg_mm.weights import find_checkpoint


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'python tools/train.py configs/maskrcnn_r50_fpn_cbam.py --seed 1')
    parser.add_argument('config', metavar='CONFIG', help='a config file')
    parser.add_argument(
        '--work-dir',
        type=output_folder,
        metavar='DIR',
        help='folder of logs and checkpoints (default: work_dirs/<config>)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help="continue from the work dir's last checkpoint, or from this one; give it after CONFIG",
    )
    parser.add_argument('--seed', type=int, help="random seed (default: the config's)")
    weights = add_starting_weights(parser)
    weights.add_argument('--load-from', metavar='CHECKPOINT', help='fine-tune this file or shipped model')
    add_precision(parser, auto='takes the faster one if the losses agree')
    add_budget(
        parser, 'set the epochs by a trial so that training fits into this time: 90s, 20m, 1.5h, or 2core-h of CPU time'
    )
    add_launcher(parser)
    add_config_changes(parser)
    return parser.parse_args()


def fit_epochs_to_budget(cfg: Config, args: argparse.Namespace) -> None:
    """Set the number of epochs that fits --budget. A resumed run keeps the number that its first start chose."""
    if args.budget and args.launcher != 'none':
        raise UserError('--budget is for one process; for several run tools/ablate.py CONFIG --nproc N --budget TIME')
    path = Path(cfg.work_dir) / SCHEDULE
    if not cfg.resume:
        path.unlink(missing_ok=True)  # of an earlier run in this folder
    if not (args.budget or path.exists()):
        return
    budget = None if cfg.resume else args.budget
    chosen = take_schedule([Row.of(args.config, cfg)], 1, budget, path.parent, tested=False)
    if chosen:
        print(f'{chosen["epochs"]} epochs, from {path}', flush=True)
        set_epochs(cfg, chosen['epochs'])


@one_line_errors(stopped='stopped; --resume goes on from the last checkpoint')
def main() -> None:
    args = parse_args()
    keep_freed_memory()
    cfg = training_config(
        args.config,
        options=args.cfg_options,
        work_dir=args.work_dir,
        seed=args.seed,
        from_scratch=args.from_scratch,
        backbone_weights=args.backbone_weights,
        load_from=args.load_from and find_checkpoint(args.load_from),
    )
    set_launcher(cfg, args.launcher, args.local_rank)
    with own_work_dir(cfg):
        train(cfg, args)


@contextlib.contextmanager
def own_work_dir(cfg: Config) -> Iterator:
    """Within the block no other training writes into the work dir; what a killed one left half written is removed.

    The first process of a launcher does it, as far as the environment names it.
    """
    if cfg.launcher != 'none' and os.environ.get('RANK') != '0':
        yield
        return
    folder = Path(cfg.work_dir)
    busy = f'{folder}: another training writes there; wait for it, or choose another --work-dir'
    with claimed(folder / '.train.lock', busy):
        remove_partial(folder)
        yield


def train(cfg: Config, args: argparse.Namespace) -> None:
    checkpoint = resume_run(cfg, args.resume)
    fit_precision_to_device(cfg, args.precision)
    fit_epochs_to_budget(cfg, args)
    runner = Runner.from_cfg(cfg)
    fetch_backbone_weights(cfg)  # the process group has started, so one process downloads for all
    epochs_left = cfg.train_cfg.get('max_epochs', 1)
    if checkpoint:
        check_weights_fit(runner.model, checkpoint, args.config, cfg.load_from)
        epochs_left = max(epochs_left - checkpoint['meta']['epoch'], 0)
    elif cfg.load_from:
        hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook.type == 'NewClassHeadsHook']
        left_out = [name for hook in hooks for name in hook.weights]
        check_starting_weights(runner.model, cfg.load_from, left_out)
    check_disk_space(runner.model, cfg.work_dir, cfg.default_hooks.checkpoint.get('max_keep_ckpts', -1), epochs_left)
    record_provenance(runner.log_dir)
    runner.train()


if __name__ == '__main__':
    main()
