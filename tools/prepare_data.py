#!/usr/bin/env python3
"""Convert labelled images of any known format to a prepared data set for training (formats: data/README.md)."""

from pathlib import Path

from cellseg_mm.arguments import at_least, tool_parser
from cellseg_mm.datasets import FORMATS, prepare
from cellseg_mm.utils import one_line_errors, output_folder


def summary(statistics: dict, out: Path) -> str:
    """The statistics as text: a table of cells by class and split, then a few lines."""
    splits = list(statistics['images'])
    width = max(map(len, [*statistics['classes'], 'all classes']))
    rows = [f'{"":{width}}' + ''.join(f'{split:>10}' for split in splits)]
    rows.append(f'{"images":{width}}' + ''.join(f'{statistics["images"][split]:>10,}' for split in splits))
    for name in statistics['classes']:
        rows.append(f'{name:{width}}' + ''.join(f'{statistics["instances"][split][name]:>10,}' for split in splits))
    totals = [sum(statistics['instances'][split].values()) for split in splits]
    rows.append(f'{"all classes":{width}}' + ''.join(f'{total:>10,}' for total in totals))
    notes = [f'ignored regions: {sum(statistics["ignored"].values()):,}'] if any(statistics['ignored'].values()) else []
    if statistics['left_out']:
        notes.append(f'outlines without a pixel in their image, left out: {statistics["left_out"]:,}')
    if statistics['groups'] != statistics['images']:
        counts = ', '.join(f'{split} {count:,}' for split, count in statistics['groups'].items())
        notes.append(f'groups (patients or slides): {counts}')
        if statistics['test_groups_in_training']:
            notes.append(f'groups of test that are also in train or val: {statistics["test_groups_in_training"]:,}')
    notes += describe_notes(statistics.get('notes', []))
    notes += [
        f'note on {entry["objects"]:,} {entry["note"]} (in {entry["images"]:,} images, {entry["first"]} first)'
        for entry in statistics.get('label_notes', [])
    ]
    height, wide, size = (statistics[key] for key in ('height', 'width', 'pixel_size'))
    rows += [
        f'cells in all: {sum(totals):,}',
        *notes,
        f'sizes: height {height["min"]} to {height["max"]} px, width {wide["min"]} to {wide["max"]} px',
        f'channel order of the files: {statistics["channel_order"]} ({statistics["channel_order_reason"]})',
        f'pixel size: {f"{size:.4g} um a px" if size else "unknown"} ({statistics["pixel_size_reason"]})',
        f'mean (RGB) {statistics["mean"]}, std {statistics["std"]}, of the training split',
    ]
    if not statistics['images']['test']:
        rows.append('no test split in the source')
    elif not statistics['labelled_images']['test']:
        rows.append('no labels for the test split: tools/test.py predicts on it but cannot score it')
    return '\n'.join([*rows, f'written to {out}'])


def describe_notes(notes: list) -> list:
    """Lines about images that are not plain 8-bit RGB."""
    lines = [f'note on {entry["images"]:,} of the images, {entry["first"]} first: {entry["note"]}' for entry in notes]
    scales = {part for entry in notes for part in entry['note'].split('; ') if part.endswith('becomes 255')}
    if len(scales) > 1:
        lines.append(
            'what becomes 255 depends on the brightest pixel of each image, so equal brightness became unequal here; '
            'to avoid this, write all images as 8 bits with one scale, also those to predict on'
        )
    return lines


@one_line_errors
def main() -> None:
    parser = tool_parser(__doc__, 'python tools/prepare_data.py data/sample --out data/cells')
    parser.add_argument('src', type=Path, metavar='SOURCE', help='folder of images and labels, or a COCO JSON file')
    parser.add_argument(
        '--out',
        type=output_folder,
        default=Path('data/cells'),
        help='the prepared data set to write (default: data/cells)',
    )
    parser.add_argument('--format', choices=['auto', *FORMATS], default='auto', help='format of SOURCE (default: auto)')
    parser.add_argument(
        '--val-fraction',
        type=float,
        default=0.2,
        help='share of the training images for validation, if SOURCE has no val split (default: 0.2)',
    )
    parser.add_argument('--seed', type=at_least(0), default=0, help='random seed of the split (default: 0)')
    parser.add_argument(
        '--channel-order',
        choices=['auto', 'rgb', 'bgr'],
        default='auto',
        help='channel order of the files (default: auto, found from the stain)',
    )
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help="names of classes 1, 2, ...; give them after SOURCE (default: the format's names)",
    )
    parser.add_argument(
        '--groups',
        nargs='?',
        const='patient',
        metavar='REGEX',
        help='keep the training images of a patient or slide on one side of the split. The file name identifies the '
        'patient or slide: its TCGA barcode, or the name without the numbers at its end, or the match of REGEX '
        '(MoNuSAC: always by patient). Give it after SOURCE',
    )
    parser.add_argument(
        '--part',
        choices=['cell', 'nucleus'],
        default='cell',
        help="outline of QuPath's cells to use if they have both (default: cell)",
    )
    parser.add_argument(
        '--splits',
        type=Path,
        metavar='FILE.csv',
        help='table with the columns name and split (train, val or test), one row per image; replaces the folders',
    )
    parser.add_argument(
        '--pixel-size',
        type=float,
        metavar='UM',
        help='pixel size of all images in micrometres (default: from the files)',
    )
    parser.add_argument('--workers', type=at_least(1), help='processes (default: one per processor)')
    args = parser.parse_args()
    statistics = prepare(
        args.src,
        args.out,
        tuple(args.classes) if args.classes else None,
        args.val_fraction,
        args.seed,
        args.channel_order,
        args.workers,
        args.format,
        args.groups,
        args.part,
        args.splits,
        args.pixel_size,
    )
    print(summary(statistics, args.out))


if __name__ == '__main__':
    main()
