#!/usr/bin/env python3
"""Make, check and score a submission: a zip with test-results.json, as the task takes it."""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from mmengine.runner import Runner

from cellseg_mm.engine.data_facts import checkpoint_channel_order
from cellseg_mm.engine.run_config import testing_config
from cellseg_mm.engine.starting_weights import check_weights_fit
from cellseg_mm.evaluation import read_ground_truth, read_results
from cellseg_mm.submission import (
    check_image_entries,
    check_submission,
    read_image_list,
    score_results,
    write_submission,
    write_test_set,
)
from cellseg_mm.utils import (
    ConfigOptions,
    UserError,
    keep_freed_memory,
    markdown_table,
    one_line_errors,
    output_file,
    scored_dataset,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)

    command = commands.add_parser(
        'make',
        help='predict the listed images and write the zip',
        description='Predict the listed images and write the zip.',
    )
    command.add_argument('config')
    command.add_argument('checkpoint')
    command.add_argument('--images', type=Path, required=True, metavar='DIR', help="the test images' files")
    command.add_argument('--ids', type=Path, required=True, metavar='IDS.json', help='test_image_name_to_ids.json')
    command.add_argument('--out', type=output_file('.zip'), required=True, metavar='X.zip')
    command.add_argument(
        '--channel-order',
        choices=['auto', 'rgb', 'bgr'],
        default='auto',
        help="the files' own order (default: as the files of the checkpoint's training set)",
    )
    command.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='config keys to change, key=value')
    command.set_defaults(run=make)

    command = commands.add_parser('check', help='say all that is wrong with a zip; exit status 1 if anything is')
    command.add_argument('zip', type=Path, metavar='X.zip')
    command.add_argument('--ids', type=Path, required=True, metavar='IDS.json', help='test_image_name_to_ids.json')
    command.add_argument('--classes', type=int, default=4, help='number of classes (default: 4)')
    command.add_argument('--allow-empty', action='store_true', help='images may have no detection')
    command.set_defaults(run=check)

    command = commands.add_parser('score', help='mask AP50 and mAP against ground truth, without a cap and at 100')
    command.add_argument('zip', type=Path, metavar='X.zip')
    command.add_argument('ground_truth', type=Path, metavar='GT.json', help='COCO annotations')
    command.set_defaults(run=score)
    return parser.parse_args()


def make(args: argparse.Namespace) -> None:
    images = read_image_list(args.ids)
    cfg, checkpoint = testing_config(args.config, args.checkpoint, args.cfg_options)
    classes = list(checkpoint['meta']['dataset_meta']['classes'])
    order = args.channel_order
    if order == 'auto':
        order = checkpoint_channel_order(checkpoint, args.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        write_test_set(images, args.images, order, classes, Path(folder) / 'data')
        cfg.test_dataloader.dataset = scored_dataset(cfg.test_dataloader.dataset)
        cfg.test_dataloader.dataset.update(
            data_root=f'{folder}/data/', ann_file='annotations.json', data_prefix=dict(img='images/')
        )
        cfg.test_evaluator = dict(type='DumpCocoResults', path=f'{folder}/results.json')
        cfg.work_dir = f'{folder}/work_dir'
        runner = Runner.from_cfg(cfg)
        check_weights_fit(runner.model, checkpoint, args.config, args.checkpoint)
        runner.test()
        dropped = write_submission(args.out, read_results(Path(folder) / 'results.json'))
    if dropped:
        print(f'{dropped:,} detections without a pixel left out')
    report(args.out, images, len(classes), allow_empty=True)


def check(args: argparse.Namespace) -> None:
    report(args.zip, read_image_list(args.ids), args.classes, args.allow_empty)


def report(path: Path, images: list, num_classes: int, allow_empty: bool) -> None:
    """Print what is wrong with a submission and end with status 1, or what it holds."""
    found = check_submission(path, images, num_classes, allow_empty)
    for line in [*found.problems, *(f'warning: {line}' for line in found.warnings)]:
        print(line)
    if found.problems:
        sys.exit(1)
    print(summary(found.results, images, num_classes))
    print(f'{path}: good')


def summary(results: list, images: list, num_classes: int) -> str:
    """What a submission without problems holds."""
    of_class = Counter(entry['category_id'] for entry in results)
    of_image = Counter(entry['image_id'] for entry in results)
    rows = [
        ['images', len(images)],
        ['images without a detection', len(images) - len(of_image)],
        ['most detections of an image', max(of_image.values(), default=0)],
        ['detections', len(results)],
        *([f'class {number}', of_class[number]] for number in range(1, num_classes + 1)),
    ]
    return markdown_table(['', 'number'], rows)


def score(args: argparse.Namespace) -> None:
    ground_truth = read_ground_truth(args.ground_truth)
    check_image_entries(ground_truth['images'], args.ground_truth)
    num_classes = len(ground_truth['categories'])
    if sorted(category['id'] for category in ground_truth['categories']) != list(range(1, num_classes + 1)):
        raise UserError(
            f'{args.ground_truth}: category ids from 1 to {num_classes} are needed, as a submission has them'
        )
    found = check_submission(args.zip, ground_truth['images'], num_classes, allow_empty=True)
    if found.problems:
        raise UserError(f'{args.zip}: broken ({found.problems[0]}); see all by tools/submission.py check')
    rows, largest = score_results(found.results, ground_truth)
    print(f'masks; an image has up to {largest:,} detections of a class, and "at 100" counts the 100 of highest score')
    print(markdown_table(['', 'AP50', 'AP50 at 100', 'mAP', 'mAP at 100'], rows))


@one_line_errors
def main() -> None:
    args = parse_args()
    keep_freed_memory()
    args.run(args)


if __name__ == '__main__':
    main()
