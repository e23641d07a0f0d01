#!/usr/bin/env python3
"""Write a report: one HTML page about a run, several runs or an ablation. It needs no other file and no network.

It shows metrics with intervals, plots, classes, errors, the best, typical and worst images, the config, and where all
of these come from. If a work dir lacks a file, the page shows the command that makes it. No model is run.
"""

from pathlib import Path

from cellseg_mm.arguments import tool_parser
from cellseg_mm.report import build_page
from cellseg_mm.utils import UserError, one_line_errors, output_file, write_atomically


@one_line_errors
def main() -> None:
    parser = tool_parser(__doc__, 'python tools/report.py work_dirs/demo')
    parser.add_argument(
        'work_dirs',
        type=Path,
        nargs='+',
        metavar='WORK_DIR',
        help='work dir of tools/train.py or tools/test.py (with --out WORK_DIR/predictions.json), '
        'or --out of tools/ablate.py',
    )
    parser.add_argument(
        '--out', type=output_file('.html'), metavar='FILE.html', help='default: report.html in the first WORK_DIR'
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
