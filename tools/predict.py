#!/usr/bin/env python3
"""Find the cells in images and write outlines, label images, COCO JSON, GeoJSON for QuPath, a table and counts.

The checkpoint holds all settings of the model, including the score threshold that validation chose. An image is
processed in tiles if its cells would otherwise appear to the model at another size than in training. If a file fails,
the tool prints one line, processes the other files, and exits with status 2.
"""

import argparse
import contextlib
import shutil
import sys

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, init_dist, is_main_process

from cellseg_mm import CellInferencer
from cellseg_mm.arguments import (
    add_channel_order,
    add_config_option,
    add_launcher,
    add_model_option,
    add_precision,
    add_score_threshold,
    checkpoint_or_model,
    tool_parser,
)
from cellseg_mm.engine.launcher import set_launcher
from cellseg_mm.export import FORMATS, check_formats, write_summary
from cellseg_mm.inference import find_channel_order
from cellseg_mm.inference.input_files import find_images, output_names
from cellseg_mm.inference.predict_files import FilePredictor
from cellseg_mm.utils import UserError, claimed, keep_freed_memory, one_line_errors, output_folder, remove_partial
from cellseg_mm.weights import CHECKPOINTS, MODELS, is_model_name

DEFAULT_FORMATS = [name for name, writer in FORMATS.items() if writer.by_default]
ORDER_FILES = 4  # whose stain decides the channel order


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'python tools/predict.py data/samples --out cells --formats overlay,csv')
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help='images, folders of images or "quoted patterns"; the first one may be a checkpoint: a file that ends in '
        f'{" or ".join(CHECKPOINTS)}, or a shipped model',
    )
    add_model_option(parser)
    parser.add_argument('--out', type=output_folder, required=True, metavar='DIR', help='folder of the outputs')
    parser.add_argument(
        '--formats',
        metavar='NAMES',
        default=','.join(DEFAULT_FORMATS),
        help=f'file formats, separated by commas: {",".join(FORMATS)} (default: %(default)s)',
    )
    add_score_threshold(parser, 'lowest score of a cell (default: the one that validation chose)')
    parser.add_argument(
        '--tile',
        action=argparse.BooleanOptionalAction,
        help='process all images in tiles, or none (default: images that need it)',
    )
    parser.add_argument(
        '--tile-size', type=int, metavar='PX', help="side of a tile (default: the size that fits the model's input)"
    )
    parser.add_argument(
        '--overlap',
        type=int,
        metavar='PX',
        help='overlap of neighbouring tiles (default: a third of a tile, at most 128)',
    )
    parser.add_argument(
        '--scale',
        type=float,
        help="px of the model's input per px of the image, in tiles (default: as in training); for images of half the "
        'magnification give twice that',
    )
    parser.add_argument(
        '--skip-background',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='skip tiles that show only glass (default: yes)',
    )
    parser.add_argument(
        '--tta', action='store_true', help='merge flipped and turned views: more accurate, eight times slower'
    )
    parser.add_argument(
        '--pixel-size',
        type=float,
        metavar='UM',
        help='pixel size of all images in micrometres (default: from each file)',
    )
    add_channel_order(parser)
    add_config_option(parser)
    parser.add_argument('--device', help='for example cpu or cuda:1 (default: CUDA if available)')
    add_precision(parser)
    parser.add_argument('--resume', action='store_true', help='keep the files and tiles that an earlier run finished')
    add_launcher(parser)
    args = parser.parse_intermixed_args()  # options may stand between a checkpoint and the images
    first = args.inputs[0]
    has_checkpoint = first.endswith(CHECKPOINTS) or (first in MODELS and is_model_name(first))
    args.checkpoint = args.inputs.pop(0) if has_checkpoint else None
    args.checkpoint = checkpoint_or_model(args)
    if not args.inputs:
        raise UserError(f'{args.checkpoint}: a checkpoint without an image; name images or folders after it')
    args.formats = list(dict.fromkeys(args.formats.split(',')))
    check_formats(args.formats)
    of_tiles = dict(scale=args.scale, tile_size=args.tile_size, overlap=args.overlap)
    for name, value in of_tiles.items():
        if value is not None and args.tile is False:
            raise UserError(f'--{name.replace("_", "-")} is for tiles; leave out --no-tile')
    return args


def start_processes(launcher: str, local_rank: int) -> None:
    """Start the process group, as MMEngine's Runner does in training and testing."""
    set_launcher(Config(), launcher, local_rank)
    if launcher != 'none' and torch.cuda.is_available():
        init_dist(launcher)


def choose_channel_order(choice: str, detector: CellInferencer, paths: list) -> str:
    """The channel order of the files; the main process decides, and says so where it had to look."""
    if choice != 'auto' or detector.training_order == 'rgb':
        return 'rgb' if choice == 'auto' else choice
    decided = [None]
    if is_main_process():
        decided[0], reason = find_channel_order(detector, paths[:: -(-len(paths) // ORDER_FILES)])
        what = 'exchanged in the files, corrected here' if decided[0] == 'bgr' else 'in their places'
        print(f'red and blue are {what} ({reason}); --channel-order rgb or bgr decides otherwise', flush=True)
    broadcast_object_list(decided)
    return decided[0]


def say_unknown_sizes(detector: CellInferencer, summaries: dict) -> None:
    """Say once for which images pixel sizes decided nothing."""
    unknown = sum(summary['mm2'] is None for summary in summaries.values())
    if detector.training_pixel_size is None:
        print('the pixel size of the training images is unknown, so images were taken as they are')
    elif unknown:
        print(
            f'{unknown} of {len(summaries)} images do not say their pixel size and were taken as they are; '
            f'the training images had {detector.training_pixel_size:.4g} um a px (see --pixel-size)'
        )


@one_line_errors(stopped='stopped; --resume keeps the files and tiles that are done')
def main() -> None:
    args = parse_args()
    keep_freed_memory()
    paths = find_images(args.inputs)
    if any(path.resolve().parent == args.out.resolve() for path in paths):
        raise UserError(f'--out {args.out}: holds input images; choose another folder')
    start_processes(args.launcher, args.local_rank)
    detector = CellInferencer(
        args.checkpoint,
        args.config,
        args.device,
        args.score_thr,
        args.scale,
        tta=args.tta,
        precision=args.precision,
        pixel_size=args.pixel_size,
    )
    if is_main_process():
        print(f'score threshold {detector.score_thr:.2f} ({detector.score_reason})', flush=True)
    tile_options = dict(detector.tiling(args.tile_size, args.overlap), skip_background=args.skip_background)
    order = choose_channel_order(args.channel_order, detector, paths)
    predictor = FilePredictor(detector, args.out, args.formats, order, args.tile, tile_options, args.resume)
    busy = f'{args.out}: another process writes there; wait for it, or choose another --out'
    with claimed(args.out / '.predict.lock', busy) if is_main_process() else contextlib.nullcontext():
        if is_main_process():
            remove_partial(args.out)  # of a killed run
        summaries, failed = predictor.predict(paths, output_names(paths))
        if is_main_process() and summaries:
            overall = write_summary(summaries, args.out)
            if args.scale is None:
                say_unknown_sizes(detector, summaries)
            print(f'{overall["cells"]:,} cells in {len(summaries)} images; written to {args.out}')
        if is_main_process() and not failed:
            shutil.rmtree(args.out / '.tiles', ignore_errors=True)
    if is_main_process() and failed:
        print(f'{failed} of {len(paths)} files failed, see above', file=sys.stderr)
    sys.exit(2 if failed else 0)


if __name__ == '__main__':
    main()
