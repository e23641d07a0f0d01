#!/usr/bin/env python3
"""Test a checkpoint, MMDetection's way. Normalisation and classes come from the checkpoint, not from the data."""

import argparse
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from cellseg_mm.engine.data_facts import check_test_labels, set_data_root
from cellseg_mm.engine.launcher import set_launcher
from cellseg_mm.engine.precision import PRECISIONS, inference_precision
from cellseg_mm.engine.provenance import record_provenance
from cellseg_mm.engine.run_config import set_test_time_augmentation, set_work_dir, testing_config
from cellseg_mm.engine.score_threshold import set_operating_threshold
from cellseg_mm.engine.starting_weights import check_weights_fit
from cellseg_mm.utils import (
    ConfigOptions,
    UserError,
    evaluators,
    keep_freed_memory,
    one_line_errors,
    output_file,
    output_folder,
    write_json,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument(
        '--work-dir', type=output_folder, help='where the log and test_metrics.json go (default: work_dirs/<config>)'
    )
    parser.add_argument(
        '--out', type=output_file('.json'), metavar='FILE.json', help='dump the predictions as COCO results'
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        help='of PQ, AJI, Dice, F1 and pictures (default: the one that validation chose, kept in the checkpoint)',
    )
    parser.add_argument(
        '--tta', action='store_true', help="merge what flipped and turned views show (the config's tta_model)"
    )
    parser.add_argument(
        '--show-dir',
        type=output_folder,
        help='draw ground truth and predictions side by side into this folder (of several processes only the first)',
    )
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='auto',
        help='of the network on a CPU; auto takes bf16 where the processor has instructions for it (default: auto)',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='config keys to change, key=value')
    args = parser.parse_args()
    if args.score_thr is not None and not 0 <= args.score_thr <= 1:
        raise UserError(f'--score-thr {args.score_thr}: scores go from 0 to 1')
    return args


@one_line_errors
def main() -> None:
    args = parse_args()
    keep_freed_memory()
    cfg, checkpoint = testing_config(args.config, args.checkpoint, args.cfg_options)
    set_work_dir(cfg, args.work_dir, args.config)
    set_launcher(cfg, args.launcher, args.local_rank)
    root = set_data_root(cfg)
    set_operating_threshold(cfg, checkpoint, args.score_thr)
    scored = check_test_labels(cfg, root)
    if not scored:
        if not (args.out or args.show_dir):
            raise UserError(f'{root}: its test split has no labels to score; give --out or --show-dir for predictions')
        cfg.test_evaluator = []
    if args.out:
        dump = dict(type='DumpCocoResults', path=str(args.out.absolute()))
        cfg.test_evaluator = [*evaluators(cfg.test_evaluator), dump]
    if args.tta:
        set_test_time_augmentation(cfg)
    if args.show_dir:
        cfg.default_hooks.visualization.update(draw=True, test_out_dir=str(args.show_dir.absolute()))
    runner = Runner.from_cfg(cfg)
    record_provenance(runner.log_dir)
    check_weights_fit(runner.model, checkpoint, args.config, args.checkpoint)
    with inference_precision(runner.model, args.precision):
        metrics = runner.test()
    if scored and is_main_process():
        path = Path(cfg.work_dir) / 'test_metrics.json'
        write_json(path, metrics)
        print(f'metrics written to {path}')
    if args.out and is_main_process():
        print(f'predictions written to {args.out}')
    if args.show_dir and is_main_process():
        print(f'pictures written to {args.show_dir}')


if __name__ == '__main__':
    main()
