#!/usr/bin/env python3
"""Draw a run's losses and validation metrics over its epochs."""

import argparse
from pathlib import Path

from cellseg_mm.utils import one_line_errors
from cellseg_mm.visualization import plot_curves, read_scalars


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', type=Path)
    parser.add_argument('--out', type=Path, help='PNG file (default: WORK_DIR/curves.png)')
    args = parser.parse_args()
    out = args.out or args.work_dir / 'curves.png'
    plot_curves(*read_scalars(args.work_dir)).savefig(out, dpi=120)
    print(f'written to {out}')


if __name__ == '__main__':
    main()
