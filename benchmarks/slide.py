#!/usr/bin/env python3
"""A whole slide to all files: time, peak memory and disk against area, and where the time goes.

The slide is drawn tissue, 665 cells a megapixel, written window by window into a lossless tiled TIFF: the same 1,000 x
1,000 px again and again, from a seed. The model is an oracle: the low bits of a pixel's colours hold the number of its
cell, and the oracle reads them. Everything else is what tools/predict.py does: tiles, merging, measurements, all
formats. The run fails if a cell is lost or doubled.

Seconds of parts are CPU seconds, because other programs may run beside this one. "tiles" is what tiled prediction adds
to reading and to the model: it stores the cells of each tile. Memory is the peak of the resident size above that at the
start, of the process that merges and writes. In a last run --processes share the tiles of a slide; one of them then
merges and writes alone.

The disk that is needed is said at the start: 20,000 px take about 3 GB, 40,000 px 12 GB, in the folder for temporary
files (TMPDIR).
"""

import argparse
import functools
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from common import measure, print_table
from torch import distributed

from cellseg_mm.datasets import CLASSES
from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.export import FORMATS, check_formats, stream
from cellseg_mm.inference import predict_tiled
from cellseg_mm.inference.predict_files import FilePredictor
from cellseg_mm.structures import Cells, encode_instances, relabel

SEED, BLOCK, TILE = 0, 1000, 512  # px of the pattern that repeats; px of the TIFF's tiles
PIXEL_SIZE = 0.25
MEGABYTES = dict(image=2.5, files=5.0)  # a megapixel, rounded up: the TIFF; the outputs and the tiles' cells


@functools.cache
def draw_blocks() -> tuple:
    """(2 * BLOCK, 2 * BLOCK, 3) uint8 RGB, the pattern four times, and the classes (N,) of its cells.

    The four low bits of red, green and blue are a number of 12 bits: 0 outside cells, else the cell's, from 1, in ten
    bits, and which of the four blocks it lies in. So no two cells of a window have one number.
    """
    image, ids, labels = draw_tissue(np.random.default_rng(SEED), BLOCK, BLOCK)
    assert len(labels) < 1024
    quarter = np.kron([[0, 1], [2, 3]], np.ones_like(ids)) << 10
    ids = np.tile(ids, (2, 2))
    code = np.where(ids > 0, ids | quarter, 0)
    low = np.stack([code >> 8, code >> 4 & 15, code & 15], axis=2)
    return (np.tile(image, (2, 2, 1)) & 240 | low).astype(np.uint8), labels


def oracle(images: list) -> list:
    """The cells in windows of at most 2 * BLOCK px a side."""
    return [_read_cells(image) for image in images]


def _read_cells(image: np.ndarray) -> Cells:
    red, green, blue = np.moveaxis(image & 15, 2, 0).astype(np.int32)
    codes = red << 8 | green << 4 | blue
    ids, count = relabel(codes)
    present = np.flatnonzero(np.bincount(codes.ravel()))
    labels = draw_blocks()[1][(present[present > 0] & 1023) - 1]
    return Cells.from_codes(encode_instances(ids, count), labels, np.ones(count), *image.shape[:2])


def write_slide(path: Path, size: int) -> None:
    """Draw a slide of ``size`` x ``size`` px, tile by tile."""
    pattern, _ = draw_blocks()
    period = len(pattern)

    def tiles() -> Iterator:
        for y in range(0, size, TILE):
            rows = pattern[np.arange(y, y + TILE) % period]
            for x in range(0, size, TILE):
                yield rows[:, np.arange(x, x + TILE) % period]

    tifffile.imwrite(
        path,
        tiles(),
        shape=(size, size, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric='rgb',
        compression='zlib',
        compressionargs=dict(level=1),
        resolution=(1e4 / PIXEL_SIZE, 1e4 / PIXEL_SIZE),
        resolutionunit='CENTIMETER',
        bigtiff=True,
    )


class Parts:
    """CPU seconds of the parts of a program, each without those that it calls."""

    def __init__(self) -> None:
        self.seconds, self._part, self._since = defaultdict(float), 'the rest', time.process_time()

    def timed(self, part: str, function: Callable) -> Callable:
        """The same function, whose time counts for a part."""

        @functools.wraps(function)
        def call(*args, **kwargs) -> object:
            before = self._enter(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._enter(before)

        return call

    def _enter(self, part: str) -> str:
        now, before = time.process_time(), self._part
        self.seconds[before] += now - self._since
        self._part, self._since = part, now
        return before

    def finish(self) -> dict:
        """Seconds by part."""
        self._enter(self._part)
        return dict(self.seconds)


class TimedSource:
    """A source whose reading counts for a part of its own."""

    def __init__(self, source: object, parts: Parts) -> None:
        self.height, self.width = source.height, source.width
        self.read = parts.timed('reading', source.read)


class Oracle:
    """The oracle as a :class:`CellInferencer` in tiles."""

    classes, pixel_size, origin, max_cells, scale = CLASSES, None, {}, 1000, 1.0

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def describe_size(self, source: object) -> str:
        return ''

    def stream(self, source: object, work_dir: Path, origin: dict, tiled: bool, **options) -> Iterator:
        detector = self._parts.timed('oracle', oracle)
        find = self._parts.timed('tiles', predict_tiled)
        cells = find(detector, TimedSource(source, self._parts), work_dir, origin, **options)
        return iter(self._parts.timed('merging', functools.partial(next, cells, None)), None)


def time_parts(parts: Parts) -> None:
    """Make what predicts and exports count for parts; in this process, which ends afterwards."""
    for name, writer in FORMATS.items():
        methods = {key: parts.timed(name, getattr(writer, key)) for key in ('__init__', 'write', '__exit__')}
        FORMATS[name] = type(writer.__name__, (writer,), methods)
    stream.measure_cells = parts.timed('measurements', stream.measure_cells)


def predict(path: Path, folder: Path, formats: list, tiling: dict, rank: int = 0, processes: int = 1) -> None:
    """Write all files of a slide, and ``spent_RANK.json``: the seconds of this process by part."""
    if processes > 1:
        meeting = f'file://{folder}/meeting'
        distributed.init_process_group('gloo', init_method=meeting, rank=rank, world_size=processes)
    parts = Parts()
    time_parts(parts)
    predictor = FilePredictor(Oracle(parts), folder / 'out', formats, tiled=True, tile_options=tiling)
    summaries, failed = predictor.predict([path], ['slide'])
    if failed:
        raise RuntimeError('the slide failed, see above')
    spent = parts.finish()
    (folder / f'spent_{rank}.json').write_text(json.dumps(spent))
    (folder / 'cells').write_text(str(summaries[str(path)]['cells']))


def predict_together(path: Path, folder: Path, formats: list, tiling: dict, processes: int) -> None:
    """The same in several processes, of which this is the first."""
    fork = multiprocessing.get_context('fork')
    others = [
        fork.Process(target=predict, args=(path, folder, formats, tiling, rank, processes))
        for rank in range(1, processes)
    ]
    for process in others:
        process.start()
    predict(path, folder, formats, tiling, 0, processes)
    for process in others:
        process.join()


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()) / 1e6


def run(size: int, path: Path, folder: Path, formats: list, tiling: dict, processes: int) -> dict:
    """Seconds, MiB, megabytes, cells and CPU seconds by part of each process, for a slide that is there."""
    folder.mkdir()
    seconds, memory = measure(functools.partial(predict_together, path, folder, formats, tiling, processes))
    cells, expected = int((folder / 'cells').read_text()), (size // BLOCK) ** 2 * len(draw_blocks()[1])
    if cells != expected:
        raise RuntimeError(f'{size} px: {cells} cells found, {expected} drawn')
    spent = [json.loads((folder / f'spent_{rank}.json').read_text()) for rank in range(processes)]
    result = dict(size=size, cells=cells, seconds=seconds, memory=memory, spent=spent, disk=megabytes(folder))
    shutil.rmtree(folder)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--sizes', type=int, nargs='+', default=[5000, 10_000, 20_000], help=f'sides in px, multiples of {BLOCK}'
    )
    parser.add_argument('--formats', nargs='+', default=list(FORMATS), help='default: all')
    parser.add_argument('--tile-size', type=int, default=1024, help='px')
    parser.add_argument('--overlap', type=int, default=128, help='px')
    parser.add_argument('--processes', type=int, default=2, help='that share a slide in a further run; 1: none')
    parser.add_argument(
        '--shared', type=int, metavar='PX', help='side of that slide, of --sizes (default: the largest)'
    )
    args = parser.parse_args()
    if any(size % BLOCK for size in args.sizes):
        parser.error(f'--sizes: multiples of {BLOCK}')
    check_formats(args.formats)
    largest = max(args.sizes)
    shared = args.shared or largest
    needed, free = sum(MEGABYTES.values()) * largest**2 / 1e6 / 1000, shutil.disk_usage(tempfile.gettempdir()).free
    print(
        f'needs about {needed:.1f} GB in {tempfile.gettempdir()}, where {free / 1e9:.1f} GB are free', file=sys.stderr
    )
    if free / 1e9 < needed:
        raise SystemExit('not enough disk: name another folder by TMPDIR, or smaller --sizes')
    draw_blocks()  # here, because every case starts as a copy of this process
    tiling = dict(tile_size=args.tile_size, overlap=args.overlap, skip_background=True)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / 'slide.tif', Path(folder) / 'run'
        for size in sorted(args.sizes):
            start = time.process_time()
            write_slide(path, size)
            drawing = time.process_time() - start
            for processes in [1] + [args.processes] * (size == shared and args.processes > 1):
                result = run(size, path, out, args.formats, tiling, processes)
                results.append(dict(result, drawing=drawing, image=path.stat().st_size / 1e6))
                print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print_results(results)


def print_results(results: list) -> None:
    """Print the tables, and two ratios: of the largest slide to the smallest, both in one process."""
    rows = [
        [
            result['size'],
            f'{result["cells"]:,}',
            len(result['spent']),
            f'{result["seconds"]:.0f}',
            ' + '.join(f'{sum(spent.values()):.0f}' for spent in result['spent']),
            f'{sum(sum(spent.values()) for spent in result["spent"]) / result["size"] ** 2 * 1e6:.3f}',
            f'{result["memory"]:.0f}',
            f'{result["image"]:.0f}',
            f'{result["disk"]:.0f}',
        ]
        for result in results
    ]
    print_table(['px', 'cells', 'processes', 's', 'CPU s', 'CPU s / megapixel', 'MiB', 'image MB', 'files MB'], rows)
    print()
    alone = [result for result in results if len(result['spent']) == 1]
    names = dict.fromkeys(name for result in results for spent in result['spent'] for name in spent)
    columns = [(f'{result["size"]} px', result['spent'][0], result['size']) for result in alone]
    for result in results:
        if result in alone:
            continue
        columns += [
            (f'{result["size"]} px, process {n + 1}', each, result['size']) for n, each in enumerate(result['spent'])
        ]
    # the parts of the largest slide, the longest first
    order = sorted(names, key=lambda name: -alone[-1]['spent'][0].get(name, 0))
    rows = [
        [name, *(f'{1000 * spent.get(name, 0) / size**2 * 1e6:.1f}' for _, spent, size in columns)] for name in order
    ]
    print_table(['CPU ms a megapixel', *(title for title, _, _ in columns)], rows)
    print()
    first, last = alone[0], alone[-1]
    print(f'drawing the largest slide took {last["drawing"]:.0f} CPU s')
    print(f'memory_ratio {last["memory"] / max(first["memory"], 0.1):.2f}')
    each = [sum(result['spent'][0].values()) / result['size'] ** 2 for result in (first, last)]
    print(f'ratio {each[1] / each[0]:.2f}')


if __name__ == '__main__':
    main()
