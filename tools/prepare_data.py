#!/usr/bin/env python3
"""Convert images and class masks into what training reads (layout: data/README.md)."""

import argparse
from pathlib import Path

from cellseg_mm.datasets import CLASSES, prepare
from cellseg_mm.utils import one_line_errors


def summary(statistics: dict, out: Path) -> str:
    """What was found, as a table of cells a class and split and a few lines."""
    splits = list(statistics['images'])
    width = max(map(len, [*statistics['classes'], 'all classes']))
    rows = [f'{"":{width}}' + ''.join(f'{split:>10}' for split in splits)]
    rows.append(f'{"images":{width}}' + ''.join(f'{statistics["images"][split]:>10,}' for split in splits))
    for name in statistics['classes']:
        rows.append(f'{name:{width}}' + ''.join(f'{statistics["instances"][split][name]:>10,}' for split in splits))
    totals = [sum(statistics['instances'][split].values()) for split in splits]
    rows.append(f'{"all classes":{width}}' + ''.join(f'{total:>10,}' for total in totals))
    height, wide = statistics['height'], statistics['width']
    rows += [
        f'cells in all: {sum(totals):,}',
        f'sizes: height {height["min"]} to {height["max"]} px, width {wide["min"]} to {wide["max"]} px',
        f'channel order of the files: {statistics["channel_order"]} ({statistics["channel_order_reason"]})',
        f'mean (RGB) {statistics["mean"]}, std {statistics["std"]}, of the training split',
    ]
    if not statistics['labelled_images']['test']:
        rows.append('no labels for the test split: tools/test.py predicts on it but cannot score it')
    return '\n'.join([*rows, f'written to {out}'])


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', type=Path, help='folder with train/NAME/{image.tif,class1.tif,...}')
    parser.add_argument('--out', type=Path, default=Path('data/cells'), help='the prepared set (default: data/cells)')
    parser.add_argument('--val-fraction', type=float, default=0.2, help='share of training images to validate on')
    parser.add_argument('--seed', type=int, default=0, help='of the split')
    parser.add_argument('--channel-order', choices=['auto', 'rgb', 'bgr'], default='auto', help="the files' own order")
    parser.add_argument('--classes', nargs='+', default=CLASSES, metavar='NAME', help='names of class 1, 2, ...')
    parser.add_argument('--workers', type=int, help='processes (default: one a processor)')
    args = parser.parse_args()
    statistics = prepare(
        args.src, args.out, tuple(args.classes), args.val_fraction, args.seed, args.channel_order, args.workers
    )
    print(summary(statistics, args.out))


if __name__ == '__main__':
    main()
