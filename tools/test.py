#!/usr/bin/env python3
"""Test a checkpoint, MMDetection's way. Normalisation and classes come from the checkpoint, not from the data."""

import argparse
import json
from pathlib import Path

from mmengine.config import DictAction
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from cellseg_mm.engine import run_setup
from cellseg_mm.utils import UserError, load_config, one_line_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--work-dir', help='where the log and test_metrics.json go (default: work_dirs/<config>)')
    parser.add_argument('--out', metavar='FILE.pkl', help='dump the predictions')
    parser.add_argument('--show-dir', help='draw ground truth and predictions side by side into this folder')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='config keys to change, key=value')
    args = parser.parse_args()
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {args.out}: a name that ends in .pkl is needed')
    return args


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    run_setup.set_work_dir(cfg, args.work_dir, args.config)
    run_setup.set_launcher(cfg, args.launcher, args.local_rank)
    root = run_setup.set_data_root(cfg)
    checkpoint = run_setup.read_checkpoint(args.checkpoint)
    run_setup.set_data_facts(cfg, **run_setup.checkpoint_data_facts(checkpoint, args.checkpoint))
    scored = run_setup.check_test_labels(cfg, root)
    if not scored:
        if not (args.out or args.show_dir):
            raise UserError(f'{root}: its test split has no labels to score; give --out or --show-dir for predictions')
        cfg.test_evaluator = []
    if args.out:
        evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
        cfg.test_evaluator = [*evaluators, dict(type='DumpDetResults', out_file_path=args.out)]
    cfg.model.backbone.init_cfg = None  # all weights come from the checkpoint
    cfg.load_from = args.checkpoint
    if args.show_dir:
        cfg.default_hooks.visualization.update(draw=True, test_out_dir=str(Path(args.show_dir).absolute()))
    runner = Runner.from_cfg(cfg)
    run_setup.check_weights_fit(runner.model, checkpoint, args.config, args.checkpoint)
    metrics = runner.test()
    if scored and is_main_process():
        path = Path(cfg.work_dir) / 'test_metrics.json'
        path.write_text(json.dumps(metrics, indent=2), encoding='utf-8')
        print(f'metrics written to {path}')
    if args.show_dir and is_main_process():
        print(f'pictures written to {args.show_dir}')


if __name__ == '__main__':
    main()
