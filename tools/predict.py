#!/usr/bin/env python3
"""Find the cells in images: outlines, label images, COCO JSON, GeoJSON for QuPath, a table, and counts.

All that the model needs comes from the checkpoint, or without one from the model that comes along; the score threshold,
too: it is the one that validation chose.
Images in which the cells would be shown to the model at another size than in training go through in tiles. A file
that fails is one line, the others go on, and the exit status is 2 in the end.
"""

import argparse
import shutil
import sys

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, init_dist, is_main_process

from cellseg_mm import CellInferencer
from cellseg_mm.engine.launcher import set_launcher
from cellseg_mm.engine.precision import PRECISIONS
from cellseg_mm.export import FORMATS, write_summary
from cellseg_mm.inference import find_channel_order
from cellseg_mm.inference.input_files import find_images, output_names
from cellseg_mm.inference.predict_files import FilePredictor
from cellseg_mm.utils import UserError, keep_freed_memory, one_line_errors, output_folder
from cellseg_mm.weights import CHECKPOINTS, DEFAULT, MODELS

ALL_FORMATS = ('overlay', *FORMATS)
ORDER_FILES = 4  # of which the channel order is told


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help='images, folders of images, "quoted patterns"; the first one is the checkpoint where it ends in '
        f'{" or ".join(CHECKPOINTS)}',
    )
    parser.add_argument(
        '--model',
        metavar='NAME',
        help=f'one that comes along, where no checkpoint is given: {", ".join(MODELS)} (default: {DEFAULT})',
    )
    parser.add_argument('--out', type=output_folder, required=True, metavar='DIR')
    parser.add_argument('--formats', default=','.join(ALL_FORMATS), help='some of %(default)s, with commas between')
    parser.add_argument('--score-thr', type=float, help='least score of a cell (default: what validation chose)')
    parser.add_argument(
        '--tile',
        action=argparse.BooleanOptionalAction,
        help='all images, or none, in tiles (default: those that need it)',
    )
    parser.add_argument('--tile-size', type=int, metavar='PX', help="of a side (default: what fits the model's input)")
    parser.add_argument('--overlap', type=int, metavar='PX', help='of tiles (default: a third of a tile, 128 at most)')
    parser.add_argument(
        '--scale',
        type=float,
        help="px of the model's input to a px of the image, in tiles (default: as in training); twice that for images "
        'of half the magnification',
    )
    parser.add_argument(
        '--skip-background',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='pass over tiles that show glass alone (default: yes)',
    )
    parser.add_argument(
        '--tta', action='store_true', help='merge what flipped and turned views show: better, eight times slower'
    )
    parser.add_argument('--pixel-size', type=float, metavar='UM', help="micrometres a px (default: the file's own)")
    parser.add_argument(
        '--channel-order',
        choices=['auto', 'rgb', 'bgr'],
        default='auto',
        help='of the files (default: rgb, unless the checkpoint comes from files with red and blue exchanged: then it '
        'is told from the stain of the cells)',
    )
    parser.add_argument('--config', help="in place of the checkpoint's own")
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: CUDA where there is one)')
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='auto',
        help='of the network on a CPU; auto takes bf16 where the processor has instructions for it (default: auto)',
    )
    parser.add_argument('--resume', action='store_true', help='keep the files and tiles that an earlier run finished')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
    args = parser.parse_intermixed_args()  # options may stand between a checkpoint and the images
    args.checkpoint = args.inputs.pop(0) if args.inputs[0].endswith(CHECKPOINTS) else None
    if args.checkpoint and args.model:
        raise UserError(f'--model {args.model}: the checkpoint {args.checkpoint} is given; choose one of them')
    if not args.inputs:
        raise UserError(f'{args.checkpoint}: a checkpoint without an image; name images or folders after it')
    args.formats = list(dict.fromkeys(args.formats.split(',')))
    unknown = [name for name in args.formats if name not in ALL_FORMATS]
    if unknown:
        raise UserError(f'--formats {unknown[0]}: choose from {",".join(ALL_FORMATS)}')
    if args.pixel_size is not None and not args.pixel_size > 0:
        raise UserError(f'--pixel-size {args.pixel_size}: must be above 0')
    if args.scale is not None and args.tile is False:
        raise UserError('--scale is that of tiles, so it cannot go with --no-tile')
    return args


def start_processes(launcher: str, local_rank: int) -> None:
    """What mmengine's Runner does, which has no part here."""
    set_launcher(Config(), launcher, local_rank)
    if launcher != 'none' and torch.cuda.is_available():
        init_dist(launcher)


def choose_channel_order(choice: str, detector: CellInferencer, paths: list) -> str:
    """That of the files; where it is not plain it is said. The main process decides."""
    if choice != 'auto' or detector.training_order == 'rgb':
        return 'rgb' if choice == 'auto' else choice
    decided = [None]
    if is_main_process():
        decided[0], reason = find_channel_order(detector, paths[:: -(-len(paths) // ORDER_FILES)])
        what = 'exchanged in the files, put right here' if decided[0] == 'bgr' else 'in their places'
        print(f'red and blue are {what} ({reason}); --channel-order rgb or bgr decides otherwise', flush=True)
    broadcast_object_list(decided)
    return decided[0]


@one_line_errors(stopped='stopped; --resume keeps the files and tiles that are done')
def main() -> None:
    args = parse_args()
    keep_freed_memory()
    paths = find_images(args.inputs)
    if any(path.resolve().parent == args.out.resolve() for path in paths):
        raise UserError(f'--out {args.out}: holds images that are to be read; choose another folder')
    start_processes(args.launcher, args.local_rank)
    detector = CellInferencer(
        args.checkpoint or args.model,
        args.config,
        args.device,
        args.score_thr,
        args.scale,
        tta=args.tta,
        precision=args.precision,
    )
    if is_main_process():
        print(f'score threshold {detector.score_thr:.2f} ({detector.score_reason})', flush=True)
    tile_options = dict(detector.tiling(args.tile_size, args.overlap), skip_background=args.skip_background)
    order = choose_channel_order(args.channel_order, detector, paths)
    predictor = FilePredictor(
        detector, args.out, args.formats, order, args.tile, tile_options, args.pixel_size, args.resume
    )
    summaries, failed = predictor.predict(paths, output_names(paths))
    if is_main_process() and summaries:
        overall = write_summary(summaries, args.out)
        print(f'{overall["cells"]:,} cells in {len(summaries)} images; written to {args.out}')
    if is_main_process() and not failed:
        shutil.rmtree(args.out / '.tiles', ignore_errors=True)
    if is_main_process() and failed:
        print(f'{failed} of {len(paths)} files failed, see above', file=sys.stderr)
    sys.exit(2 if failed else 0)


if __name__ == '__main__':
    main()
