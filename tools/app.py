#!/usr/bin/env python3
"""A page in the browser: drop an image, see its cells, choose classes and threshold, take the files home."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from cellseg_mm import CellInferencer
from cellseg_mm.inference.input_files import find_images
from cellseg_mm.utils import UserError, keep_freed_memory, one_line_errors
from cellseg_mm.weights import DEFAULT, MODELS

try:
    from cellseg_mm.app import LOWEST_SCORE, build_app, serve
except ModuleNotFoundError as error:
    raise SystemExit(f'error: {error}; the page needs `make setup EXTRAS=app`') from error


SAMPLES = Path(__file__).resolve().parents[1] / 'data/samples'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', nargs='?', help='a file (default: the model that comes along, see --model)')
    parser.add_argument(
        '--model',
        metavar='NAME',
        help=f'one that comes along, where no checkpoint is given: {", ".join(MODELS)} (default: {DEFAULT})',
    )
    parser.add_argument('--config', help='in place of the one in the checkpoint')
    parser.add_argument(
        '--samples',
        nargs='+',
        metavar='IMAGE',
        default=[SAMPLES],
        help='to choose from: files, folders (default: data/samples)',
    )
    parser.add_argument(
        '--channel-order',
        choices=['auto', 'rgb', 'bgr'],
        default='auto',
        help='of the files (default: rgb, unless the checkpoint comes from files with red and blue exchanged: then it '
        'is told from the stain of the cells, file by file)',
    )
    parser.add_argument('--device', help='default: CUDA where there is one')
    parser.add_argument('--host', default='127.0.0.1', help='0.0.0.0 lets the whole network in (default: %(default)s)')
    parser.add_argument('--port', type=int, help='default: the first free one from 7860 on')
    args = parser.parse_args()
    if args.checkpoint and args.model:
        raise UserError(f'--model {args.model}: the checkpoint {args.checkpoint} is given; choose one of them')
    return args


@one_line_errors
def main() -> None:
    args = parse_args()
    keep_freed_memory()
    detector = CellInferencer(
        args.checkpoint or args.model,
        args.config,
        args.device,
        score_thr=LOWEST_SCORE,
        channel_order=args.channel_order,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that images of patients are removed then, too
    with tempfile.TemporaryDirectory(prefix='cellseg_app_') as folder:
        app = build_app(detector, find_images(args.samples), detector.operating_thr, Path(folder))
        print(f'open {serve(app, args.host, args.port)} in a browser; Ctrl-C stops', flush=True)
        app.block_thread()


if __name__ == '__main__':
    main()
