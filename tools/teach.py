#!/usr/bin/env python3
"""Teach a detector the classes of labelled cells, in seconds. Its boxes and masks stay.

The cells of a prepared data set fit a classifier on the detector's features of each cell. The new checkpoint is like
any other: predict.py, test.py and app.py take it. Held-out cells show whether teaching helped.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from mmengine.runner.checkpoint import save_checkpoint
from tqdm import tqdm

from cellseg_mm.arguments import at_least, tool_parser
from cellseg_mm.teaching import read_labelled, teach
from cellseg_mm.utils import UserError, markdown_table, one_line_errors, output_file
from cellseg_mm.weights import DEFAULT, find_checkpoint


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'python tools/teach.py data/mine --out mine.pth')
    parser.add_argument(
        'data', type=Path, metavar='PREPARED', help='prepared data set, written by tools/prepare_data.py'
    )
    parser.add_argument('--checkpoint', metavar='CHECKPOINT', help=f'a file or a shipped model (default: {DEFAULT})')
    parser.add_argument('--out', type=output_file('.pth'), required=True, metavar='FILE.pth', help='the new checkpoint')
    parser.add_argument(
        '--split', choices=['train', 'val', 'test'], default='train', help='split to teach with (default: train)'
    )
    parser.add_argument(
        '--images', type=int, metavar='N', help='teach with N images of the split, drawn by --seed (default: all)'
    )
    parser.add_argument('--seed', type=at_least(0), default=0, help='random seed of --images (default: 0)')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    start = time.monotonic()
    checkpoint = find_checkpoint(args.checkpoint)
    images, classes = read_labelled(args.data, args.split)
    if args.images is not None:
        if not 1 <= args.images <= len(images):
            raise UserError(f'--images {args.images}: the split {args.split} has {len(images)} images with cells')
        chosen = np.random.default_rng(args.seed).permutation(len(images))[: args.images]
        images = [images[index] for index in sorted(chosen)]
    show = lambda entries: tqdm(entries, desc='seeing cells', unit='image')  # noqa: E731
    content, comparison = teach(checkpoint, images, classes, progress=show)
    save_checkpoint(content, str(args.out))
    cells = content['meta']['taught']['cells']
    print(markdown_table(['class', 'cells'], list(cells.items())))
    if comparison:
        print(comparison.in_words())
        print(comparison.table(classes))
    else:
        print('too few cells to keep some back, so it is unknown how well it names others')
    print(f'taught by {sum(cells.values()):,} cells in {time.monotonic() - start:.0f} s: {args.out}')


if __name__ == '__main__':
    main()
