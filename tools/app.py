#!/usr/bin/env python3
"""Open a page in the browser: drop an image, see its cells, choose classes and score threshold, download the files.
You can also correct cells there, and teach the model.
"""

import argparse
import functools
import signal
import sys
import tempfile
from pathlib import Path

from cellseg_mm import CellInferencer
from cellseg_mm.arguments import (
    add_channel_order,
    add_config_option,
    add_model_option,
    checkpoint_or_model,
    tool_parser,
)
from cellseg_mm.inference.input_files import find_images
from cellseg_mm.teaching import is_teachable
from cellseg_mm.utils import keep_freed_memory, one_line_errors, output_folder
from cellseg_mm.weights import find_checkpoint

try:
    from cellseg_mm.app import LOWEST_SCORE, build_app, serve
except ModuleNotFoundError as error:
    raise SystemExit(f'error: {error}; run `make setup EXTRAS=app` first') from error


SAMPLES = Path(__file__).resolve().parents[1] / 'data/samples'


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'python tools/app.py work_dirs/demo/best_*.pth')
    parser.add_argument(
        'checkpoint', nargs='?', metavar='CHECKPOINT', help='a file or a shipped model (default: see --model)'
    )
    add_model_option(parser)
    add_config_option(parser)
    parser.add_argument(
        '--samples',
        nargs='+',
        metavar='IMAGE',
        default=[SAMPLES],
        help='files and folders that the page offers (default: data/samples)',
    )
    add_channel_order(parser)
    parser.add_argument(
        '--corrections',
        type=output_folder,
        metavar='DIR',
        help='folder that keeps the corrections and taught models of each visitor (default: removed when the app ends)',
    )
    parser.add_argument('--device', help='for example cpu or cuda:1 (default: CUDA if available)')
    parser.add_argument(
        '--host', default='127.0.0.1', help='address; 0.0.0.0 opens the app to the network (default: %(default)s)'
    )
    parser.add_argument('--port', type=int, help='port (default: the first free one from 7860)')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    keep_freed_memory()
    checkpoint = find_checkpoint(checkpoint_or_model(args))
    options = dict(device=args.device, score_thr=LOWEST_SCORE, channel_order=args.channel_order)
    load = functools.partial(CellInferencer, **options)
    detector = load(checkpoint, args.config)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that images of patients are removed then too
    with tempfile.TemporaryDirectory(prefix='cellseg_app_') as folder:
        taught = checkpoint if args.config is None and is_teachable(checkpoint) else None
        if taught is None:
            print(
                'without the part to correct and teach: the boxes or masks of this model depend on the class',
                flush=True,
            )
        samples = find_images(args.samples)
        app = build_app(detector, samples, detector.validated_thr, Path(folder), args.corrections, taught, load)
        print(f'open {serve(app, args.host, args.port)} in a browser; Ctrl-C stops', flush=True)
        app.block_thread()


if __name__ == '__main__':
    main()
