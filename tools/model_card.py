#!/usr/bin/env python3
"""Write the metrics of a shipped model into its card in docs/models.md.

The metrics come from a test of the shipped file by tools/test.py in WORK_DIR. If predictions.json is beside them
(tools/test.py --out WORK_DIR/predictions.json), the card also has intervals.
"""

from pathlib import Path

from cellseg_mm.arguments import tool_parser
from cellseg_mm.report.card import card_metrics, fill_card
from cellseg_mm.report.run import read_run
from cellseg_mm.utils import UserError, one_line_errors, write_atomically

PAGE = Path(__file__).resolve().parents[1] / 'docs/models.md'


@one_line_errors
def main() -> None:
    parser = tool_parser(__doc__, 'python tools/model_card.py consep-lite0 work_dirs/consep-lite0')
    parser.add_argument(
        'block', metavar='NAME[/SET]', help='block in the page: the model, and the data set of the test'
    )
    parser.add_argument(
        'work_dir', type=Path, metavar='WORK_DIR', help='work dir of tools/test.py, which holds only this test'
    )
    parser.add_argument('--page', type=Path, metavar='FILE.md', default=PAGE, help='default: docs/models.md')
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
