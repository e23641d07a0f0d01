#!/usr/bin/env python3
"""Train and test the rows of an ablation with several seeds, and compare them.

Each row's config lists the keys that it changes in the row above (ablation_variable). The tool refuses rows that
differ in other keys. Finished runs are skipped, and interrupted runs continue. To extend the table, call the tool again
with the same --out, with more seeds or rows, also on another day or machine.

With --budget, all runs train the same number of epochs: as many as fit into the time, by a trial of each row. The
folder stores this schedule for all later runs.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from cellseg_mm.arguments import add_budget, add_config_changes, add_starting_weights, at_least, tool_parser
from cellseg_mm.engine import ablation
from cellseg_mm.engine.budget import SCHEDULE, set_epochs, take_schedule
from cellseg_mm.engine.data_facts import check_test_labels
from cellseg_mm.engine.precision import share_precision
from cellseg_mm.engine.run_config import training_config
from cellseg_mm.evaluation.ablation_summary import COMPARED, summarise, to_csv, to_markdown
from cellseg_mm.utils import (
    UserError,
    locked,
    one_line_errors,
    output_folder,
    write_atomically,
    write_json,
    write_plot,
)
from cellseg_mm.visualization import plot_ablation


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'python tools/ablate.py configs/demo/maskrcnn_r18*.py --seeds 0 1 --budget 2h')
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='the rows, from the first to the last')
    parser.add_argument(
        '--seeds', type=at_least(0), nargs='+', metavar='SEED', default=[0], help='random seeds (default: 0)'
    )
    parser.add_argument(
        '--out',
        type=output_folder,
        metavar='DIR',
        default=Path('work_dirs/ablation'),
        help='folder of the runs and the table (default: work_dirs/ablation)',
    )
    add_starting_weights(parser)
    parser.add_argument(
        '--nproc',
        type=at_least(1),
        metavar='N',
        default=1,
        help='processes that share each run, as many as GPUs (default: 1)',
    )
    add_budget(parser, 'set the epochs so that all runs fit: 90s, 20m, 1.5h, or 12core-h of CPU time for training')
    parser.add_argument('--table-only', action='store_true', help='do not train; write the table of the finished runs')
    add_config_changes(parser)
    args = parser.parse_args()
    args.seeds = list(dict.fromkeys(args.seeds))
    return args


def write_summary(rows: list, out: Path) -> str:
    """Write the table and the plot of all finished runs; return the table."""
    if not out.is_dir():
        raise UserError(f'{out}: no such folder; train without --table-only first')
    # without a lock, another call with the same --out could read fewer runs and write its table later
    with locked(out / 'ablation.lock'):
        runs = ablation.read_runs(rows, out)
        summary = summarise(runs)
        if not summary:
            raise UserError(f'{out}: no finished run of these rows')
        table = to_markdown(summary, runs)
        write_atomically(out / 'ablation.md', table)
        write_atomically(out / 'ablation.csv', to_csv(runs))
        plain = [
            {key: value for key, value in run.items() if key != 'evidence'} for found in runs.values() for run in found
        ]
        write_json(out / 'ablation.json', dict(rows=summary, runs=plain))
        write_plot(out / 'ablation.png', plot_ablation(summary, runs, COMPARED))
    return table


@one_line_errors(stopped='stopped; the same command goes on')
def main() -> None:
    args = parse_args()
    out = args.out.absolute()
    cfgs = [
        training_config(
            config, args.cfg_options, from_scratch=args.from_scratch, backbone_weights=args.backbone_weights
        )
        for config in args.configs
    ]
    for cfg in cfgs:
        root = Path(cfg.data_root)
        if not check_test_labels(cfg, root):  # now, and not after hours of training
            raise UserError(f'{root}: no labels in the test split, on which the rows are compared; see data/README.md')
    if args.nproc > 1:
        for cfg in cfgs:
            cfg.num_processes = args.nproc  # in the config, because the joint batch grows with it: another experiment
    ablation.check_comparable([ablation.Row.of(*pair) for pair in zip(args.configs, cfgs, strict=True)])
    share_precision(cfgs, out, choose=not args.table_only)
    rows = [ablation.Row.of(*pair) for pair in zip(args.configs, cfgs, strict=True)]
    chosen = take_schedule(rows, len(args.seeds), None if args.table_only else args.budget, out)
    if chosen:
        print(f'{chosen["epochs"]} epochs a run, from {out / SCHEDULE}', flush=True)
        for row in rows:
            set_epochs(row.cfg, chosen['epochs'])
        rows = [ablation.Row.of(config, row.cfg) for config, row in zip(args.configs, rows, strict=True)]
    # seeds in the outer loop, so that every row has its first run as early as possible
    runs = [] if args.table_only else [(row, seed) for seed in args.seeds for row in rows]
    epochs = [row.cfg.train_cfg.max_epochs for row, _ in runs]
    # epochs of earlier calls take no time in this one
    done = [ablation.epochs_of(row, seed, out) for row, seed in runs]
    with tqdm(total=sum(epochs), initial=sum(done), unit='epoch', disable=not runs) as progress:
        for number, (row, seed) in enumerate(runs):

            def show(count: int, number: int = number) -> None:
                if count > done[number]:
                    progress.update(count - done[number])
                    done[number] = count

            progress.set_description(f'{row.name}, seed {seed} ({number + 1} of {len(runs)})')
            ablation.run_row(row, seed, out, show)
            show(epochs[number])
            table = write_summary(rows, out)
    print(table if runs else write_summary(rows, out))
    print(f'written to {out}/ablation.md, .csv, .json and .png')


if __name__ == '__main__':
    main()
