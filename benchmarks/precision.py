#!/usr/bin/env python3
"""The cells that a model finds on a CPU in bf16 and in float32: how many pixels of their masks are equal.

`equal` is the share of all pixels that are in a cell in both or in neither; `shared` is the pixels in a cell in both
over those in a cell in either. A cell is found again if one of the other precision has an IoU above 0.5 with it. The
last line is the seconds in float32 over those in bf16.
"""

import argparse
from pathlib import Path

import numpy as np
from common import clock, print_table

from cellseg_mm import CellInferencer
from cellseg_mm.inference.input_files import find_images
from cellseg_mm.structures import Cells


def found_again(cells: Cells, other: Cells) -> int:
    """How many of the cells have a counterpart with an IoU above 0.5; cells of a class do not overlap more."""
    first, second = cells.instance_map(), other.instance_map()
    pairs, shared = np.unique(np.stack([first, second])[:, (first > 0) & (second > 0)], axis=1, return_counts=True)
    areas = [np.bincount(instances.ravel()) for instances in (first, second)]
    return int((shared / (areas[0][pairs[0]] + areas[1][pairs[1]] - shared) > 0.5).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', nargs='*', default=['data/samples'], help='files and folders (default: data/samples)')
    parser.add_argument('--checkpoint', help='default: the shipped model')
    args = parser.parse_args()
    inferencers = {name: CellInferencer(args.checkpoint, device='cpu', precision=name) for name in ('fp32', 'bf16')}
    rows, seconds = [], dict.fromkeys(inferencers, 0.0)
    for path in find_images(args.images):
        cells = {}
        for name, find in inferencers.items():
            start = clock()
            cells[name] = find(path)
            seconds[name] += clock() - start
        masks = [found.instance_map() > 0 for found in cells.values()]
        either = np.logical_or(*masks).sum()
        rows.append(
            [
                Path(path).name,
                *map(len, cells.values()),
                found_again(*cells.values()),
                np.mean(masks[0] == masks[1]),
                np.logical_and(*masks).sum() / max(either, 1),
            ]
        )
    mean = ['mean', *np.mean([row[1:] for row in rows], axis=0)]
    table = [
        [name, *(f'{count:g}' for count in counts), f'{equal:.5f}', f'{shared:.4f}']
        for name, *counts, equal, shared in [*rows, mean]
    ]
    print_table(['image', 'cells in fp32', 'in bf16', 'found again', 'equal', 'shared'], table)
    print(f'seconds: fp32 {seconds["fp32"]:.1f}, bf16 {seconds["bf16"]:.1f}')
    print(f'ratio {seconds["fp32"] / seconds["bf16"]:.2f}')


if __name__ == '__main__':
    main()
