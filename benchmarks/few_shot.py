#!/usr/bin/env python3
"""What a few labelled images are worth: mPQ on a test split after tools/teach.py with 1, 2, 5, ... training images.

The detector stays the same, so that PQ regardless of class is the same in all rows; the score threshold is the
checkpoint's own. Images are drawn anew for each seed, the same ones for all checkpoints.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from common import print_table
from mmengine.runner.checkpoint import save_checkpoint

from cellseg_mm import CellInferencer
from cellseg_mm.evaluation import evaluate, read_ground_truth
from cellseg_mm.teaching import FeatureMemory, read_labelled, teach
from cellseg_mm.utils import write_json
from cellseg_mm.weights import find_checkpoint


def metrics_of(checkpoint: Path, data: Path, split: str) -> dict:
    """The metrics of a checkpoint on a split of a prepared set, at its own threshold."""
    ground_truth = read_ground_truth(data / f'annotations/{split}.json')
    detector = CellInferencer(checkpoint)
    ids = [entry['id'] for entry in ground_truth['categories']]
    results = []
    for image in ground_truth['images']:
        cells = detector(data / 'images' / image['file_name'])
        boxes = cells.boxes().astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        rows = zip(cells.labels.tolist(), boxes.tolist(), cells.codes(), cells.scores.tolist(), strict=True)
        results += [
            dict(image_id=image['id'], category_id=ids[label], bbox=box, segmentation=code, score=score)
            for label, box, code, score in rows
        ]
    return evaluate(ground_truth, results, detector.score_thr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=Path('data/consep'), help='a prepared set (default: %(default)s)')
    parser.add_argument('--checkpoints', nargs='+', default=['nuclei-lite0'], help='(default: %(default)s)')
    parser.add_argument('--images', type=int, nargs='+', default=[1, 2, 5, 10, 22])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--split', default='test', help='scored (default: %(default)s)')
    parser.add_argument('--out', type=Path, help='a JSON file for all metrics')
    args = parser.parse_args()
    images, classes = read_labelled(args.data)
    rows, kept = [], []
    for name in args.checkpoints:
        checkpoint = find_checkpoint(name)
        see = FeatureMemory(CellInferencer(checkpoint))
        for count in args.images:
            found = []
            for seed in args.seeds if count < len(images) else args.seeds[:1]:
                chosen = np.random.default_rng(seed).permutation(len(images))[:count]
                content, _ = teach(
                    checkpoint, [images[index] for index in sorted(chosen)], classes, see=see, hold_out=False
                )
                with tempfile.TemporaryDirectory() as folder:
                    save_checkpoint(content, f'{folder}/taught.pth')
                    metrics = metrics_of(Path(folder) / 'taught.pth', args.data, args.split)
                found.append(metrics)
                cells = sum(content['meta']['taught']['cells'].values())
                kept.append(dict(checkpoint=name, images=count, seed=seed, cells=cells, metrics=metrics))
                print(f'{name}, {count} images, seed {seed}: {cells} cells, mPQ {metrics["mPQ"]:.3f}', flush=True)
            mpq = np.array([metrics['mPQ'] for metrics in found])
            rows.append([name, count, len(found), mpq.mean(), mpq.min(), mpq.max(), found[0]['PQ']])
    print_table(['checkpoint', 'images', 'seeds', 'mPQ', 'least', 'most', 'PQ'], rows)
    if args.out:
        write_json(args.out, kept)


if __name__ == '__main__':
    main()
