#!/usr/bin/env python3
"""Show the errors of predictions: confused classes, missed and spurious cells, merges, splits and the worst images."""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cellseg_mm.arguments import add_score_threshold, tool_parser
from cellseg_mm.evaluation import make_scenes, read_ground_truth, read_results
from cellseg_mm.evaluation.error_analysis import (
    analyze_errors,
    error_kinds,
    errors_markdown,
    group_by_image,
    scene_codes,
    worst_images,
)
from cellseg_mm.utils import UserError, one_line_errors, output_folder, write_atomically, write_plot
from cellseg_mm.visualization.error_pictures import draw_errors, plot_confusion_matrix, plot_precision_recall


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'python tools/analyze_errors.py work_dirs/demo/predictions.json data/demo/annotations/test.json --out errors',
    )
    parser.add_argument('results', type=Path, metavar='RESULTS.json', help='COCO results, from tools/test.py --out')
    parser.add_argument(
        'annotations', type=Path, metavar='ANNOTATIONS.json', help='annotations of the prepared data set'
    )
    parser.add_argument(
        '--out', type=output_folder, required=True, metavar='DIR', help='folder for the tables and pictures'
    )
    parser.add_argument(
        '--images', type=Path, metavar='DIR', help='folder of the images (default: ../images beside the annotations)'
    )
    add_score_threshold(
        parser,
        'lowest score that counts, except for curves and AP50 (default: the one that validation chose, from '
        'test_metrics.json beside RESULTS.json)',
    )
    parser.add_argument(
        '--worst', type=int, metavar='N', default=10, help='number of images to draw, the worst first (default: 10)'
    )
    args = parser.parse_args()
    if args.worst < 0:
        raise UserError(f'--worst {args.worst}: must be 0 or more')
    if args.images and not args.images.is_dir():
        raise UserError(f'--images {args.images}: no such folder')
    return args


def tested_threshold(results: Path) -> float:
    """The score threshold of the test that wrote the results."""
    path = results.with_name('test_metrics.json')
    try:
        score_thr = float(json.loads(path.read_text('utf-8'))['cells/score_thr'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path}: no score threshold of the test in it; give --score-thr') from error
    print(f'score threshold {score_thr:.2f} (from {path})')
    return score_thr


def read_parts(args: argparse.Namespace) -> tuple:
    """The annotations and results, whole, by image, and as scenes."""
    ground_truth, results = read_ground_truth(args.annotations), read_results(args.results)
    try:
        parts = group_by_image(ground_truth, results)
        with tqdm(parts, desc='matching', unit='image') as progress:
            scenes = [make_scenes(*part)[0] for part in progress]
    except ValueError as error:
        raise UserError(f'{args.results}: {error}; are these results for {args.annotations}?') from error
    return ground_truth, results, parts, scenes


def check_sizes(report: dict, parts: list, images: Path, args: argparse.Namespace) -> None:
    """Refuse images of another size than in the annotations, before anything is written; missing ones come later."""
    for index in worst_images(report, args.worst):
        image = parts[index][0]['images'][0]
        path = images / image['file_name']
        stored = cv2.imread(str(path))
        if stored is not None and stored.shape[:2] != (image['height'], image['width']):
            raise UserError(
                f'{path}: {stored.shape[1]}x{stored.shape[0]} px (width x height), but '
                f'{image["width"]}x{image["height"]} in {args.annotations}; --images names the folder of the images'
            )


def draw_worst(report: dict, parts: list, scenes: list, images: Path, args: argparse.Namespace) -> list:
    """Draw the worst images into OUT/worst, in place of those of an earlier run; return the paths of missing ones."""
    folder, missing = args.out / 'worst', []
    for path in folder.glob('[0-9][0-9][0-9][0-9]_*.png'):
        path.unlink()
    for place, index in enumerate(tqdm(worst_images(report, args.worst), desc='drawing the worst', unit='image')):
        name = report['images'][index]['name']
        stored = cv2.imread(str(images / name))
        if stored is None:
            missing.append(images / name)
            continue
        gt_codes, codes = scene_codes(*parts[index])
        gt_kinds, kinds = error_kinds(scenes[index].above(args.score_thr))
        codes = codes[: len(kinds)]  # scores fall
        drawn = draw_errors(np.ascontiguousarray(stored[..., ::-1]), gt_codes, gt_kinds, codes, kinds)
        # images of several folders may share a name
        path = folder / f'{place + 1:04}_{Path(name).stem}.png'
        write_atomically(path, cv2.imencode('.png', drawn[..., ::-1])[1].tobytes())
    return missing


@one_line_errors
def main() -> None:
    args = parse_args()
    ground_truth, results, parts, scenes = read_parts(args)
    if args.score_thr is None:
        args.score_thr = tested_threshold(args.results)
    report = analyze_errors(ground_truth, results, scenes, args.score_thr)
    text = errors_markdown(report, args.worst)
    images = args.images or args.annotations.parent.parent / 'images'
    check_sizes(report, parts, images, args)

    write_atomically(args.out / 'errors.json', json.dumps(report, indent=1, allow_nan=False))
    write_atomically(args.out / 'errors.md', text + '\n')
    write_plot(args.out / 'confusion_matrix.png', plot_confusion_matrix(report))
    write_plot(args.out / 'precision_recall.png', plot_precision_recall(report))
    missing = draw_worst(report, parts, scenes, images, args)
    print(text)
    if missing:
        print(f'\nwarning: {len(missing)} images not found, first {missing[0]}; --images names their folder')
    drawn = len(worst_images(report, args.worst)) - len(missing)
    files = f'errors.json, errors.md, confusion_matrix.png, precision_recall.png, {drawn} pictures in worst/'
    print(f'\nwritten to {args.out}: {files}')


if __name__ == '__main__':
    main()
