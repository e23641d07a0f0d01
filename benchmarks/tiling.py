#!/usr/bin/env python3
"""Tiled inference against area: time, peak memory, and the share of time that is not the model's.

The image is drawn window by window and never held whole: discs of 14 to 28 px on a jittered grid, 977 a megapixel. Two
models segment it: `light`, a classical segmentation with SciPy (Gaussian, Otsu, distance transform, a region for each
peak), and `oracle`, which reads each disc's number from its colour and must find all of them. Reading a window means
drawing it here. The default sizes are filled by whole tiles: tiles are only as large as the image needs, and a smaller
one takes less memory whatever the area.

Baseline: the plain path with the light model, which takes the whole image in one call and returns its masks as stock
mmdet does, one bitmap of the image's size for each cell, encoded by mmdet's encode_mask_results; at the largest size
whose bitmaps fit into --plain-memory. Below it the same with run-length codes. Memory is the peak of the resident size
above that at the start.
"""

import argparse
import functools
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from common import measure, print_table
from mmdet.structures.mask import encode_mask_results
from scipy import ndimage

from cellseg_mm.inference import predict_tiled
from cellseg_mm.structures import Cells, encode_instances, relabel

BLOCK, PITCH = 1024, 32  # px of the pattern that repeats, and between discs
GLASS, NUCLEUS = (236, 228, 238), (110, 80, 150)


@functools.cache
def draw_block() -> tuple:
    """The pattern: ids (BLOCK, BLOCK) int32 from 1 on, and the same stained, (BLOCK, BLOCK, 3) uint8 RGB."""
    rng = np.random.default_rng(0)
    ids = np.zeros((BLOCK, BLOCK), np.int32)
    for number, place in enumerate(np.ndindex(BLOCK // PITCH, BLOCK // PITCH), start=1):
        y, x = ((np.array(place) + 0.5) * PITCH + rng.integers(-1, 2, 2)).astype(int).tolist()
        cv2.circle(ids, (x, y), int(rng.integers(7, 15)), number, cv2.FILLED)
    stained = np.where(ids[..., None] > 0, NUCLEUS, GLASS) + rng.normal(0, 8, (BLOCK, BLOCK, 1))
    return ids, stained.clip(0, 255).astype(np.uint8)


class Discs:
    """An image (size, size) of discs, each in its own colour if numbered, else stained."""

    def __init__(self, size: int, numbered: bool) -> None:
        self.height = self.width = size
        self.numbered = numbered

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        ids, stained = draw_block()
        rows, cols = np.arange(y, y + height)[:, None], np.arange(x, x + width)
        if not self.numbered:
            return stained[rows % BLOCK, cols % BLOCK]
        ids = ids[rows % BLOCK, cols % BLOCK]
        block = rows // BLOCK * (self.width // BLOCK + 1) + cols // BLOCK
        ids = np.where(ids > 0, ids + block * (BLOCK // PITCH) ** 2, 0)
        return np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=2).astype(np.uint8)


def segment(image: np.ndarray) -> np.ndarray:
    """The light model: (H, W) int32 ids of the stained regions, one for each peak of the distance transform."""
    # rows of 1024 values would share their places in the processor's cache, and filters would take half as long again
    width = image.shape[1]
    grey = ndimage.gaussian_filter(np.pad(image[..., 0], ((0, 0), (0, 24)), 'reflect'), 1)
    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
    inside = grey < threshold
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), 2)
    peaks = (ndimage.maximum_filter(depth, 15) == depth) & inside
    seeds, _ = ndimage.label(peaks, np.ones((3, 3)))
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    return relabel(np.where(inside, seeds[tuple(nearest)], 0)[:, :width])[0]


def read_numbers(image: np.ndarray) -> np.ndarray:
    """The oracle model."""
    red, green, blue = np.moveaxis(image.astype(np.int32), 2, 0)
    return relabel(red << 16 | green << 8 | blue)[0]


MODELS = {'light': segment, 'oracle': read_numbers}


def to_cells(ids: np.ndarray) -> Cells:
    count = int(ids.max())
    return Cells.from_codes(encode_instances(ids, count), np.zeros(count), np.ones(count), *ids.shape)


def timed(function: Callable, spent: dict, key: str) -> Callable:
    """A function that adds the seconds of each call to ``spent[key]``."""

    def call(*args) -> object:
        start = time.perf_counter()
        result = function(*args)
        spent[key] = spent.get(key, 0) + time.perf_counter() - start
        return result

    return call


def tiled(image: Discs, model: str, folder: Path, tile_size: int, overlap: int) -> None:
    """Find the cells of an image; write their number and the seconds spent in parts to a file."""
    spent, cells = {}, 0
    image.read = timed(image.read, spent, 'reading')
    detector = timed(lambda images: [to_cells(MODELS[model](image)) for image in images], spent, 'model')
    with tempfile.TemporaryDirectory() as work_dir:
        for part in predict_tiled(detector, image, work_dir, {}, tile_size, overlap):
            cells += len(part)
    (folder / 'spent.json').write_text(json.dumps(dict(spent, cells=cells)), encoding='utf-8')


def plain(image: Discs, bitmaps: bool, folder: Path) -> None:
    """Do the same in one call of the light model."""
    spent = {}
    window = timed(image.read, spent, 'reading')(0, 0, image.width, image.height)
    ids = timed(segment, spent, 'model')(window)
    if bitmaps:
        cells = len(encode_mask_results(ids == np.arange(1, ids.max() + 1)[:, None, None]))
    else:
        cells = len(to_cells(ids))
    (folder / 'spent.json').write_text(json.dumps(dict(spent, cells=cells)), encoding='utf-8')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--sizes', type=int, nargs='+', default=[1920, 3712, 8192, 16256], help=f'multiples of {PITCH} px'
    )
    parser.add_argument('--tile-size', type=int, default=1024, help='px')
    parser.add_argument('--overlap', type=int, default=128, help='px')
    parser.add_argument('--plain-memory', type=float, default=4, help="GiB of the plain path's bitmaps")
    args = parser.parse_args()
    draw_block()  # here, because every case starts as a copy of this process
    rows, results = [], {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)

        def add_row(name: str, size: int, function: Callable, image: Discs, *arguments: object) -> None:
            seconds, memory = measure(functools.partial(function, image, *arguments))
            spent = json.loads((folder / 'spent.json').read_text('utf-8'))
            results[name, size] = seconds, memory, spent['cells']
            parts = spent['model'], spent['reading'], seconds - spent['model'] - spent['reading']
            shares = [f'{100 * part / seconds:.1f}' for part in parts]
            per_megapixel = f'{seconds / size**2 * 1e6:.3f}'
            rows.append([name, size, spent['cells'], f'{seconds:.1f}', per_megapixel, f'{memory:.0f}', *shares])

        for model, size in itertools.product(MODELS, args.sizes):
            image = Discs(size, model == 'oracle')
            add_row(f'tiled, {model}', size, tiled, image, model, folder, args.tile_size, args.overlap)
            if model == 'oracle' and results['tiled, oracle', size][2] != (size // PITCH) ** 2:
                raise RuntimeError(f'{size} px: a disc is lost, doubled or cut')
        # bitmaps of size^2 bytes, of which there are (size / PITCH)^2
        largest = int((args.plain_memory * 2**30 * PITCH**2) ** 0.25) // PITCH * PITCH
        for name, bitmaps in (('plain, light, bitmaps', True), ('plain, light, codes', False)):
            add_row(name, largest, plain, Discs(largest, False), bitmaps, folder)
    print_table(['path, model', 'px', 'cells', 's', 's / megapixel', 'MiB', 'model %', 'reading %', 'the rest %'], rows)
    for model in MODELS:
        areas, (seconds, memory, _) = (
            np.square(args.sizes),
            np.array([results[f'tiled, {model}', s] for s in args.sizes]).T,
        )
        line = np.polyval(np.polyfit(areas[:-1], seconds[:-1], 1), areas[-1])
        print(
            f'{model}: the last takes {seconds[-1] / line:.2f} of what the line through the smaller ones has, and'
            f' {memory[-1] / memory[1]:.2f} of the memory of the second'
        )
    ours, stock = results['tiled, light', args.sizes[-1]], results['plain, light, bitmaps', largest]
    print(f'memory_ratio {stock[1] / max(ours[1], 0.1):.1f}')
    print(f'ratio {stock[0] / largest**2 / (ours[0] / args.sizes[-1] ** 2):.1f}')


if __name__ == '__main__':
    main()
