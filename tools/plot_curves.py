#!/usr/bin/env python3
"""Draw losses (training and validation in one picture) and validation metrics over the epochs, of a run or several."""

import argparse
from pathlib import Path

from cellseg_mm.utils import one_line_errors, output_file, write_plot
from cellseg_mm.visualization import plot_curves, read_scalars


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', type=Path, nargs='+', metavar='WORK_DIR')
    parser.add_argument('--out', type=output_file('.png'), help='PNG file (default: curves.png in the first WORK_DIR)')
    args = parser.parse_args()
    out = args.out or args.work_dirs[0] / 'curves.png'
    runs = {str(work_dir): read_scalars(work_dir) for work_dir in args.work_dirs}
    write_plot(out, plot_curves(runs))
    print(f'written to {out}')


if __name__ == '__main__':
    main()
