#!/usr/bin/env python3
"""What a few labelled images are worth: mPQ on a test split after tools/teach.py with 1, 2, 5, ... training images.

The detector stays the same, so that PQ regardless of class is the same in all rows; the score threshold is the
checkpoint's own. Images are drawn anew for each seed, the same ones for all checkpoints. Intervals (95 %) are from
resampled test images and seeds.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from common import print_table
from matplotlib.figure import Figure
from mmengine.runner.checkpoint import save_checkpoint

from cellseg_mm import CellInferencer
from cellseg_mm.evaluation import PanopticCounts, make_scenes, panoptic_counts, read_ground_truth
from cellseg_mm.evaluation.bootstrap import percentile_interval
from cellseg_mm.teaching import FeatureMemory, read_labelled, teach
from cellseg_mm.utils import write_json
from cellseg_mm.weights import find_checkpoint

NUM_RESAMPLES = 1000


def counts_of(checkpoint: Path, data: Path, split: str) -> tuple:
    """Counts (I, C) of a checkpoint on a split of a prepared set, at its own threshold; and PQ regardless of class."""
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
    scenes = [scene.above(detector.score_thr) for scene in make_scenes(ground_truth, results)]
    return panoptic_counts(scenes, len(ids)), float(np.nanmean(panoptic_counts(scenes).quality()[0]))


def mean_pq(counts: PanopticCounts) -> float:
    """mPQ: PQ of each class, pooled over the images, then averaged."""
    return float(np.nanmean(counts.pooled().quality()[0]))


def with_interval(runs: list) -> tuple:
    """Mean mPQ of runs on the same images, and its 95 % percentile interval over resampled images and runs."""
    rng, drawn = np.random.default_rng(0), []
    stacked = np.array(runs)  # (runs, 4, images, classes)
    for _ in range(NUM_RESAMPLES):
        images = rng.integers(0, stacked.shape[2], stacked.shape[2])
        chosen = stacked[rng.integers(0, len(runs), len(runs))][:, :, images]
        drawn.append(np.mean([mean_pq(PanopticCounts(*counts)) for counts in chosen]))
    return np.mean([mean_pq(counts) for counts in runs]), *percentile_interval(drawn)


def draw(rows: list, path: Path) -> None:
    """A line for each checkpoint, with its intervals."""
    figure = Figure(figsize=(6, 3.6), layout='constrained')
    axes = figure.subplots()
    for name in dict.fromkeys(row[0] for row in rows):
        images, mpq, low, high = np.array([[row[1], *row[3:6]] for row in rows if row[0] == name], float).T
        axes.errorbar(images, mpq, [mpq - low, high - mpq], marker='o', capsize=3, label=name)
    axes.set(xscale='log', xlabel='labelled images', ylabel='mPQ on the test split', ylim=(0, None))
    axes.set_xticks(images, [f'{count:.0f}' for count in images])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=Path('data/consep'), help='a prepared set (default: %(default)s)')
    parser.add_argument('--checkpoints', nargs='+', default=['nuclei-lite0'], help='(default: %(default)s)')
    parser.add_argument('--images', type=int, nargs='+', default=[1, 2, 5, 10, 22])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--split', default='test', help='scored (default: %(default)s)')
    parser.add_argument('--out', type=Path, help='a JSON file for all counts')
    parser.add_argument('--plot', type=Path, help='a PNG file for the curves')
    args = parser.parse_args()
    images, classes = read_labelled(args.data)
    rows, kept = [], []
    for given in args.checkpoints:
        checkpoint = find_checkpoint(given)
        name = Path(given).stem
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
                    counts, pq = counts_of(Path(folder) / 'taught.pth', args.data, args.split)
                found.append(counts)
                cells = sum(content['meta']['taught']['cells'].values())
                lists = {key: value.tolist() for key, value in counts._asdict().items()}
                kept.append(dict(checkpoint=name, images=count, seed=seed, cells=cells, mPQ=mean_pq(counts), PQ=pq))
                kept[-1]['counts'] = lists
                print(f'{name}, {count} images, seed {seed}: {cells} cells, mPQ {mean_pq(counts):.3f}', flush=True)
            rows.append([name, count, len(found), *with_interval(found), pq])
    print_table(['checkpoint', 'images', 'seeds', 'mPQ', 'low', 'high', 'PQ'], rows)
    if args.plot:
        draw(rows, args.plot)
    if args.out:
        write_json(args.out, kept)


if __name__ == '__main__':
    main()
