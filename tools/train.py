#!/usr/bin/env python3
"""Train a detector, MMDetection's way.

Start from: ImageNet weights (default), --backbone-weights FILE (ImageNet weights at hand), --from-scratch (no weights,
nothing frozen, BatchNorm trains), or --load-from CHECKPOINT (fine-tune).
"""

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from cellseg_mm.engine import schedule
from cellseg_mm.engine.ablation import Row
from cellseg_mm.engine.checkpoint import check_disk_space
from cellseg_mm.engine.launcher import set_launcher
from cellseg_mm.engine.precision import PRECISIONS, fit_precision_to_device
from cellseg_mm.engine.provenance import record_provenance
from cellseg_mm.engine.run_config import resume_run, training_config
from cellseg_mm.engine.starting_weights import check_starting_weights, check_weights_fit, fetch_backbone_weights
from cellseg_mm.utils import ConfigOptions, UserError, keep_freed_memory, one_line_errors, output_folder


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument(
        '--work-dir', type=output_folder, help='where logs and checkpoints go (default: work_dirs/<config>)'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help="go on from the work dir's last checkpoint, or from the given one; after CONFIG",
    )
    parser.add_argument('--seed', type=int, help="in place of the config's")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument('--from-scratch', action='store_true', help='no pretrained weights, nothing frozen')
    weights.add_argument('--backbone-weights', metavar='FILE', help='ImageNet weights of the backbone, as a file')
    weights.add_argument('--load-from', metavar='CHECKPOINT', help='fine-tune this checkpoint')
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='auto',
        help='on a CPU auto takes the faster of both, if the losses agree (default: auto)',
    )
    parser.add_argument(
        '--budget',
        type=schedule.Budget.parse,
        metavar='TIME',
        help='set the epochs so that training fits, by a trial: 90s, 20m, 1.5h, or 2core-h of CPU time',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='config keys to change, key=value')
    return parser.parse_args()


def fit_epochs_to_budget(cfg: Config, args: argparse.Namespace) -> None:
    """Set the epochs of --budget; a run that is resumed keeps those that it began with."""
    if not (args.budget or cfg.resume):
        return
    if args.budget and args.launcher != 'none':
        raise UserError('--budget is for one process; for several: tools/ablate.py CONFIG --nproc N --budget TIME')
    work_dir = Path(cfg.work_dir)
    if not cfg.resume:
        (work_dir / 'schedule.json').unlink(missing_ok=True)
    budget = None if cfg.resume else args.budget
    chosen = schedule.take_schedule([Row.of(args.config, cfg)], 1, budget, work_dir, tested=False)
    if chosen:
        print(f'{chosen["epochs"]} epochs, as {work_dir / "schedule.json"} has it', flush=True)
        schedule.set_epochs(cfg, chosen['epochs'])


@one_line_errors(stopped='stopped; --resume goes on from the last checkpoint')
def main() -> None:
    args = parse_args()
    keep_freed_memory()
    cfg = training_config(
        args.config,
        args.cfg_options,
        args.work_dir,
        args.seed,
        args.from_scratch,
        args.backbone_weights,
        args.load_from,
    )
    set_launcher(cfg, args.launcher, args.local_rank)
    checkpoint = resume_run(cfg, args.resume)
    fit_precision_to_device(cfg, args.precision)
    fit_epochs_to_budget(cfg, args)
    runner = Runner.from_cfg(cfg)
    fetch_backbone_weights(cfg)  # now that the processes know each other, so that one fetches for all
    epochs = cfg.train_cfg.get('max_epochs', 1)
    if checkpoint:
        check_weights_fit(runner.model, checkpoint, args.config, cfg.load_from)
        epochs = max(epochs - checkpoint['meta']['epoch'], 0)
    elif cfg.load_from:
        hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook.type == 'NewClassHeadsHook']
        left_out = [name for hook in hooks for name in hook.weights]
        check_starting_weights(runner.model, cfg.load_from, left_out)
    check_disk_space(runner.model, cfg.work_dir, cfg.default_hooks.checkpoint.get('max_keep_ckpts', -1), epochs)
    record_provenance(runner.log_dir)
    runner.train()


if __name__ == '__main__':
    main()
