#!/usr/bin/env python3
"""Make, check and score a submission: the zip file with test-results.json for the course task's server."""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mmengine.runner import Runner

from cellseg_mm.arguments import (
    add_channel_order,
    add_config_and_checkpoint,
    add_config_changes,
    at_least,
    help_page,
    tool_parser,
)
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
    UserError,
    keep_freed_memory,
    markdown_table,
    one_line_errors,
    output_file,
    scored_dataset,
)


def parse_args() -> argparse.Namespace:
    ids = 'test_image_name_to_ids.json'
    parser = tool_parser(__doc__, f'python tools/submission.py check submission.zip --ids SOURCE/{ids}')
    commands = parser.add_subparsers(dest='command', required=True)

    def add_command(run: Callable, description: str, example: str) -> argparse.ArgumentParser:
        name = run.__name__
        page = help_page(f'{description}.', f'python tools/submission.py {name} {example}')
        command = commands.add_parser(name, help=description, **page)
        command.set_defaults(run=run)
        return command

    command = add_command(
        make,
        'Predict the listed images and write the zip',
        f'CHECKPOINT --images SOURCE/test_release --ids SOURCE/{ids} --out submission.zip',
    )
    add_config_and_checkpoint(command)
    command.add_argument('--images', type=Path, required=True, metavar='DIR', help='folder of the test images')
    command.add_argument('--ids', type=Path, required=True, metavar='IDS.json', help=ids)
    command.add_argument('--out', type=output_file('.zip'), required=True, metavar='X.zip', help='the zip')
    add_channel_order(command, auto="the order in the checkpoint's training set")
    add_config_changes(command)

    command = add_command(
        check,
        'List all problems of a zip; the exit status is 1 if there are any',
        f'submission.zip --ids SOURCE/{ids}',
    )
    command.add_argument('zip', type=Path, metavar='X.zip', help='the zip')
    command.add_argument('--ids', type=Path, required=True, metavar='IDS.json', help=ids)
    command.add_argument('--classes', type=at_least(1), metavar='N', default=4, help='number of classes (default: 4)')
    command.add_argument('--allow-empty', action='store_true', help='accept images without a detection')

    command = add_command(
        score,
        'Compute AP50 and mAP of masks against ground truth, without a limit and with 100 detections per image',
        'submission.zip data/cells/annotations/test.json',
    )
    command.add_argument('zip', type=Path, metavar='X.zip', help='the zip')
    command.add_argument('ground_truth', type=Path, metavar='GT.json', help='COCO annotations')
    return parser.parse_args()


def make(args: argparse.Namespace) -> None:
    images = read_image_list(args.ids)
    cfg, checkpoint = testing_config(args.checkpoint, args.config, args.cfg_options)
    classes = list(checkpoint['meta']['dataset_meta']['classes'])
    order = args.channel_order
    if order == 'auto':
        order = checkpoint_channel_order(checkpoint, cfg.load_from)
    with tempfile.TemporaryDirectory() as folder:
        write_test_set(images, args.images, order, classes, Path(folder) / 'data')
        cfg.test_dataloader.dataset = scored_dataset(cfg.test_dataloader.dataset)
        cfg.test_dataloader.dataset.update(
            data_root=f'{folder}/data/', ann_file='annotations.json', data_prefix=dict(img='images/')
        )
        cfg.test_evaluator = dict(type='DumpCocoResults', path=f'{folder}/results.json')
        cfg.work_dir = f'{folder}/work_dir'
        runner = Runner.from_cfg(cfg)
        check_weights_fit(runner.model, checkpoint, args.config or 'its own config', cfg.load_from)
        runner.test()
        dropped = write_submission(args.out, read_results(Path(folder) / 'results.json'))
    if dropped:
        print(f'left out: {dropped:,} detections without a pixel')
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
    """The contents of a submission without problems, as a table."""
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
        raise UserError(f'{args.ground_truth}: its category ids must be 1 to {num_classes}, as in a submission')
    found = check_submission(args.zip, ground_truth['images'], num_classes, allow_empty=True)
    if found.problems:
        raise UserError(f'{args.zip}: broken ({found.problems[0]}); tools/submission.py check lists all problems')
    rows, largest = score_results(found.results, ground_truth)
    print(
        f'masks; an image has up to {largest:,} detections of a class; "at 100" counts the 100 with the highest score'
    )
    print(markdown_table(['', 'AP50', 'AP50 at 100', 'mAP', 'mAP at 100'], rows))


@one_line_errors
def main() -> None:
    args = parse_args()
    keep_freed_memory()
    args.run(args)


if __name__ == '__main__':
    main()
