#!/usr/bin/env python3
"""Plot losses (training and validation in one plot) and validation metrics over the epochs, for one or several runs."""

from pathlib import Path

from cellseg_mm.arguments import tool_parser
from cellseg_mm.utils import one_line_errors, output_file, write_plot
from cellseg_mm.visualization import plot_curves, read_scalars


@one_line_errors
def main() -> None:
    parser = tool_parser(__doc__, 'python tools/plot_curves.py work_dirs/demo')
    parser.add_argument('work_dirs', type=Path, nargs='+', metavar='WORK_DIR', help='work dir of tools/train.py')
    parser.add_argument(
        '--out', type=output_file('.png'), metavar='FILE.png', help='default: curves.png in the first WORK_DIR'
    )
    args = parser.parse_args()
    out = args.out or args.work_dirs[0] / 'curves.png'
    runs = {str(work_dir): read_scalars(work_dir) for work_dir in args.work_dirs}
    write_plot(out, plot_curves(runs))
    print(f'written to {out}')


if __name__ == '__main__':
    main()
