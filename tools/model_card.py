#!/usr/bin/env python3
"""Put the metrics of a model that comes along into its card, docs/models.md.

They are those that tools/test.py left in WORK_DIR for the very file of the package, with intervals where
predictions.json is beside them (--out WORK_DIR/predictions.json).
"""

import argparse
from pathlib import Path

from cellseg_mm.report.card import card_metrics, fill_card
from cellseg_mm.report.run import read_run
from cellseg_mm.utils import UserError, one_line_errors, write_atomically

PAGE = Path(__file__).resolve().parents[1] / 'docs/models.md'


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('block', metavar='NAME[/SET]', help='the block in the page: a model, and what it was tested on')
    parser.add_argument('work_dir', type=Path, metavar='WORK_DIR', help='of tools/test.py, of this test alone')
    parser.add_argument('--page', type=Path, default=PAGE, help='default: docs/models.md')
    args = parser.parse_args()
    if not args.page.is_file():
        raise UserError(f'{args.page}: no such page')
    metrics = card_metrics(args.block.partition('/')[0], read_run(args.work_dir, str(args.work_dir)))
    page = fill_card(args.page.read_text('utf-8'), args.block, metrics)
    write_atomically(args.page, page)
    print(metrics)
    print(f'written to {args.page}')


if __name__ == '__main__':
    main()
