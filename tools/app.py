#!/usr/bin/env python3
"""A page in the browser: drop an image, see its cells, choose classes and threshold, take the files home."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from cellseg_mm import CellInferencer
from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.inference.input_files import find_images
from cellseg_mm.utils import keep_freed_memory, one_line_errors

try:
    from cellseg_mm.app import LOWEST_SCORE, build_app, serve
except ModuleNotFoundError as error:
    raise SystemExit(f'error: {error}; the page needs `pip install -r requirements-app.txt`') from error


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint')
    parser.add_argument('--config', help='in place of the one in the checkpoint')
    parser.add_argument(
        '--samples', nargs='+', metavar='IMAGE', help='to choose from: files, folders (default: drawn tissue)'
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
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    keep_freed_memory()
    detector = CellInferencer(
        args.checkpoint, args.config, args.device, score_thr=LOWEST_SCORE, channel_order=args.channel_order
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that images of patients are removed then, too
    with tempfile.TemporaryDirectory(prefix='cellseg_app_') as folder:
        samples = find_images(args.samples) if args.samples else draw_samples(Path(folder))
        app = build_app(detector, samples, detector.operating_thr, Path(folder))
        print(f'open {serve(app, args.host, args.port)} in a browser; Ctrl-C stops', flush=True)
        app.block_thread()


def draw_samples(folder: Path, size: int = 256) -> list:
    """Three images of drawn tissue, what the demo trains on."""
    paths = []
    for seed, density in enumerate((0.5, 1.0, 1.5)):
        image = draw_tissue(np.random.default_rng(1000 + seed), size, size, density)[0]
        paths.append(folder / f'drawn tissue {seed + 1}.png')
        cv2.imwrite(str(paths[-1]), image[..., ::-1])
    return paths


if __name__ == '__main__':
    main()
