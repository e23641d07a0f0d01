#!/usr/bin/env python3
"""Cells of images and of themselves at half resolution, with and without their pixel sizes.

PQ compares the cells found in the changed image with those found in the image itself, regardless of class, pooled over
the images. The mirrored images show the model's own noise: nothing is lost in them.
"""

import argparse
from dataclasses import replace

import cv2
import numpy as np
from common import print_table

from cellseg_mm import CellInferencer
from cellseg_mm.evaluation import make_scene, panoptic_counts
from cellseg_mm.images import ArraySource, open_image
from cellseg_mm.inference.input_files import find_images
from cellseg_mm.structures import Cells, Runs


def compare(cells: Cells, others: Cells) -> object:
    """The scene of an image's cells (truth) and those of a changed one (predictions)."""
    actual, found = np.zeros(len(cells), np.int64), np.zeros(len(others), np.int64)
    shape = cells.height, cells.width
    return make_scene(shape, cells.codes(), actual, actual > 0, others.codes(), found, others.scores)


def mirrored(cells: Cells) -> Cells:
    """The cells of a mirrored image in the image itself."""
    owner, start, length = cells.runs.split_at_columns(cells.height)
    x, y = np.divmod(start, cells.height)
    start = (cells.width - 1 - x) * cells.height + y
    order = np.lexsort((start, owner))
    return replace(cells, runs=Runs(owner[order], start[order], length[order]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', nargs='+', help='files and folders')
    parser.add_argument('--pixel-size', type=float, default=0.25, help='of the images, um (default: %(default)s)')
    parser.add_argument('--model', default='consep-lite0', help='a file or name (default: %(default)s)')
    args = parser.parse_args()
    detector = CellInferencer(args.model)
    ways = ('mirrored', 'half, both pixel sizes known', 'half, unknown')
    counts, scenes = np.zeros(len(ways) + 1, int), {way: [] for way in ways}
    for path in find_images(args.images):
        source = open_image(path)
        height, width = source.height // 2 * 2, source.width // 2 * 2
        image = source.read(0, 0, width, height)
        half = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        cells = detector(ArraySource(image, args.pixel_size))
        others = (
            mirrored(detector(ArraySource(np.ascontiguousarray(image[:, ::-1]), args.pixel_size))),
            detector(ArraySource(half, 2 * args.pixel_size)).resize(height, width),
            detector(ArraySource(half)).resize(height, width),
        )
        counts += [len(cells), *map(len, others)]
        for way, other in zip(ways, others, strict=True):
            scenes[way].append(compare(cells, other))
    rows = [['the image itself', f'{counts[0]:,}', '', '']]
    for way, count in zip(ways, counts[1:], strict=True):
        quality = panoptic_counts(scenes[way]).pooled().quality()[0]
        rows.append([way, f'{count:,}', f'{count / counts[0] - 1:+.1%}', f'{quality:.3f}'])
    print_table(['shown', 'cells', 'difference', 'PQ with those of the image'], rows)


if __name__ == '__main__':
    main()
