#!/usr/bin/env python3
"""Time and memory of scoring dense images: CellMetric with all its metrics against mmdet's CocoMetric with masks alone.

Both take the same predictions, as run-length codes, from the batch to the metrics. Memory is the peak of the resident
size above that at the start. Baseline: mmdet.evaluation.CocoMetric(metric='segm'), which scores by pycocotools.
"""

import argparse
import tempfile
from pathlib import Path

from common import measure, print_table
from predictions import make_predictions, score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=14)
    parser.add_argument('--size', type=int, default=1000, help='px')
    parser.add_argument('--cells', type=int, default=600)
    parser.add_argument('--detections', type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, samples = make_predictions(Path(folder), args.images, (args.size, args.size), args.cells, args.detections)
        ours = measure(lambda: score(dict(type='CellMetric', ann_file=str(path)), samples), repeats=3)
        stock_config = dict(type='CocoMetric', ann_file=str(path), metric='segm', proposal_nums=(100, 300, 1000))
        stock = measure(lambda: score(stock_config, samples))
        count = len(score(dict(type='CellMetric', ann_file=str(path)), samples))
    rows = [['CellMetric', count, f'{ours[0]:.2f}', f'{ours[1]:.0f}']]
    rows.append(['CocoMetric, segm', 6, f'{stock[0]:.2f}', f'{stock[1]:.0f}'])
    print_table(['scored by', 'metrics', 's', 'MiB'], rows)
    print(f'memory_ratio {stock[1] / max(ours[1], 0.1):.1f}')
    print(f'ratio {stock[0] / ours[0]:.1f}')


if __name__ == '__main__':
    main()
