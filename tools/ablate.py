#!/usr/bin/env python3
"""Train and test the rows of an ablation with several seeds, and compare them.

Each row's config says what it changes of the row above (ablation_variable); rows that differ in more are refused. Runs
that are finished are skipped, interrupted ones go on: call it again with the same OUT, on another day or machine, with
more seeds or rows, and the table grows.

With --budget all runs train the same number of epochs, as many as fit by a trial of each row. OUT keeps the
schedule, and every later run there takes it.
"""

import argparse
import fcntl
from pathlib import Path

from tqdm import tqdm

from cellseg_mm.engine import ablation, schedule
from cellseg_mm.engine.precision import share_precision
from cellseg_mm.engine.run_config import training_config
from cellseg_mm.evaluation.ablation_summary import COMPARED, summarise, to_csv, to_markdown
from cellseg_mm.utils import (
    ConfigOptions,
    UserError,
    one_line_errors,
    output_folder,
    write_atomically,
    write_json,
    write_plot,
)
from cellseg_mm.visualization import plot_ablation


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='the rows, from the first to the last')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='default: 0')
    parser.add_argument(
        '--out', type=output_folder, default=Path('work_dirs/ablation'), help='default: work_dirs/ablation'
    )
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument('--from-scratch', action='store_true', help='no pretrained weights, nothing frozen')
    weights.add_argument('--backbone-weights', metavar='FILE', help='ImageNet weights of the backbones, as a file')
    parser.add_argument(
        '--nproc', type=int, default=1, help='processes that share each run, as many as GPUs (default: 1)'
    )
    parser.add_argument(
        '--budget',
        type=schedule.Budget.parse,
        metavar='TIME',
        help='set the epochs so that all runs fit: 90s, 20m, 1.5h, or 12core-h of CPU time, training alone',
    )
    parser.add_argument('--table-only', action='store_true', help='train nothing; the table of the runs that there are')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='config keys to change in every row')
    return parser.parse_args()


def write_summary(rows: list, out: Path) -> str:
    """Write the table and the picture of all finished runs; return the table."""
    if not out.is_dir():
        raise UserError(f'{out}: no such folder, so there is no finished run')
    with open(out / 'ablation.lock', 'w') as lock:
        # another call that shares OUT would leave the table of fewer runs, had it read them earlier and written later
        fcntl.flock(lock, fcntl.LOCK_EX)
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
    if args.nproc > 1:
        for cfg in cfgs:
            cfg.num_processes = args.nproc  # in the config, for the joint batch grows with it: another experiment
    ablation.check_comparable([ablation.Row.of(*pair) for pair in zip(args.configs, cfgs, strict=True)])
    share_precision(cfgs, out, choose=not args.table_only)
    rows = [ablation.Row.of(*pair) for pair in zip(args.configs, cfgs, strict=True)]
    chosen = schedule.take_schedule(rows, len(args.seeds), None if args.table_only else args.budget, out)
    if chosen:
        print(f'{chosen["epochs"]} epochs a run, as {out}/schedule.json has it', flush=True)
        for row in rows:
            schedule.set_epochs(row.cfg, chosen['epochs'])
        rows = [ablation.Row.of(config, row.cfg) for config, row in zip(args.configs, rows, strict=True)]
    # seeds outside, so that every row has its first run as early as can be
    runs = [] if args.table_only else [(row, seed) for seed in args.seeds for row in rows]
    epochs = [row.cfg.train_cfg.max_epochs for row, _ in runs]
    # what earlier runs have done takes no time of this one
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
