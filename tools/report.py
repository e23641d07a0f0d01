#!/usr/bin/env python3
"""One HTML page on a run, on several, or on an ablation, that needs no other file and no network.

Metrics with intervals, curves, classes, errors, the best, typical and worst images, the config and where it all comes
from. What a work dir lacks is named in the page, with the command that makes it; no model is run.
"""

import argparse
from pathlib import Path

from cellseg_mm.report import build_page
from cellseg_mm.utils import UserError, one_line_errors, output_file, write_atomically


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'work_dirs',
        type=Path,
        nargs='+',
        metavar='WORK_DIR',
        help='of tools/train.py, of tools/test.py (with --out WORK_DIR/predictions.json), or OUT of tools/ablate.py',
    )
    parser.add_argument(
        '--out', type=output_file('.html'), help='HTML file (default: report.html in the first WORK_DIR)'
    )
    args = parser.parse_args()
    for folder in args.work_dirs:
        if not folder.is_dir():
            raise UserError(f'{folder}: no such folder; give a work dir of tools/train.py, test.py or ablate.py')
    out = args.out or args.work_dirs[0] / 'report.html'
    page = build_page(list(dict.fromkeys(args.work_dirs)))
    write_atomically(out, page)
    print(f'written to {out} ({len(page.encode()) / 1e6:.1f} MB)')


if __name__ == '__main__':
    main()
