#!/usr/bin/env python3
"""How well models find nuclei of tissue that they were not trained on: PQ regardless of class on data/samples.

Images need id maps beside them (NAME_masks.png). PQ is that of each image, averaged over the images of a kind, which
the names begin with, at the score threshold of the model.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from common import print_table

from cellseg_mm import CellInferencer
from cellseg_mm.evaluation import make_scene, panoptic_counts
from cellseg_mm.inference.input_files import find_images
from cellseg_mm.structures import encode_instances
from cellseg_mm.structures.instance_map import relabel
from cellseg_mm.weights import shipped_models


def panoptic_quality(inferencer: CellInferencer, image: Path) -> float:
    """PQ of an image regardless of class."""
    instances, count = relabel(cv2.imread(str(image.with_name(f'{image.stem}_masks.png')), cv2.IMREAD_UNCHANGED))
    cells = inferencer(image)
    actual, found = np.zeros(count, np.int64), np.zeros(len(cells), np.int64)
    codes = encode_instances(instances, count)
    scene = make_scene(instances.shape, codes, actual, actual > 0, cells.codes(), found, cells.scores)
    return float(panoptic_counts([scene]).quality()[0][0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='*', default=shipped_models(), help='files or names (default: those shipped)')
    parser.add_argument('--images', default='data/samples', help='a folder (default: %(default)s)')
    args = parser.parse_args()
    images = [Path(path) for path in find_images([args.images])]
    kinds = [image.stem.partition('_')[0] for image in images]
    rows = []
    for name in args.models:
        inferencer = CellInferencer(name)
        found = np.array([panoptic_quality(inferencer, image) for image in images])
        means = [found[[other == kind for other in kinds]].mean() for kind in dict.fromkeys(kinds)]
        rows.append([name, *(f'{value:.3f}' for value in (*means, found.mean()))])
    print_table(['model', *(f'{kind} ({kinds.count(kind)})' for kind in dict.fromkeys(kinds)), 'all'], rows)


if __name__ == '__main__':
    main()
