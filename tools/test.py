#!/usr/bin/env python3
"""Test a checkpoint as MMDetection does: write all metrics and, on request, predictions and pictures.

Classes and normalisation come from the checkpoint, not from the data. Without CONFIG, the model and its input do too.
"""

import argparse
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from cellseg_mm.arguments import (
    add_config_and_checkpoint,
    add_config_changes,
    add_launcher,
    add_precision,
    add_score_threshold,
    tool_parser,
)
from cellseg_mm.engine.data_facts import check_test_labels, set_data_root, warn_of_other_pixel_size
from cellseg_mm.engine.launcher import set_launcher
from cellseg_mm.engine.precision import inference_precision
from cellseg_mm.engine.provenance import record_provenance
from cellseg_mm.engine.run_config import set_test_time_augmentation, set_work_dir, testing_config
from cellseg_mm.engine.score_threshold import set_score_threshold
from cellseg_mm.engine.starting_weights import check_weights_fit
from cellseg_mm.utils import (
    UserError,
    evaluators,
    keep_freed_memory,
    one_line_errors,
    output_file,
    output_folder,
    write_json,
)
from cellseg_mm.weights import is_model_name


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'python tools/test.py work_dirs/demo/best_*.pth --show-dir shown')
    add_config_and_checkpoint(parser)
    parser.add_argument(
        '--work-dir',
        type=output_folder,
        metavar='DIR',
        help='folder of the log and test_metrics.json (default: work_dirs/<config>; without CONFIG the folder of the '
        'checkpoint, or work_dirs/<shipped model>)',
    )
    parser.add_argument(
        '--out', type=output_file('.json'), metavar='FILE.json', help='save the predictions as COCO results'
    )
    add_score_threshold(
        parser,
        'threshold of PQ, AJI, Dice, F1 and pictures (default: the one that validation chose, from the checkpoint)',
    )
    parser.add_argument(
        '--tta', action='store_true', help="merge flipped and turned views (the config's tta_model), eight times slower"
    )
    parser.add_argument(
        '--show-dir',
        type=output_folder,
        metavar='DIR',
        help='draw ground truth and predictions side by side (of several processes, only the first one draws)',
    )
    add_precision(parser)
    add_launcher(parser)
    add_config_changes(parser)
    args = parser.parse_intermixed_args()  # options may stand between CONFIG and CHECKPOINT
    if not (args.config or args.work_dir or is_model_name(args.checkpoint)):
        args.work_dir = output_folder(str(Path(args.checkpoint).parent))
    return args


@one_line_errors
def main() -> None:
    args = parse_args()
    keep_freed_memory()
    cfg, checkpoint = testing_config(args.checkpoint, args.config, args.cfg_options)
    set_work_dir(cfg, args.work_dir, args.config or args.checkpoint)
    set_launcher(cfg, args.launcher, args.local_rank)
    root = set_data_root(cfg)
    warn_of_other_pixel_size(root, checkpoint, cfg.load_from)
    set_score_threshold(cfg, checkpoint, args.score_thr)
    scored = check_test_labels(cfg, root)
    if not scored:
        if not (args.out or args.show_dir):
            raise UserError(f'{root}: no labels to score in the test split; give --out or --show-dir for predictions')
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
    check_weights_fit(runner.model, checkpoint, args.config or 'its own config', cfg.load_from)
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
