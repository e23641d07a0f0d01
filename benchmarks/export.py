#!/usr/bin/env python3
"""A stream of cells on a large image to GeoJSON and CSV: time, and whether the memory stays flat.

Cells (25 px wide on average, some with a hole) lie on a jittered grid and come tile by tile. The image is a random
texture of which only windows exist; reading them costs nothing. Memory is the peak of the resident size above that at
the start; a fifth of the cells on a fifth of the area shows how much it grows.

naive: the loop that one writes first, cell by cell at the size of the image: decode the bitmap, regionprops, outlines;
timed on a few cells, scaled up for the ratio. regionprops: scikit-image's regionprops_table of the same properties, on
id maps of the tiles that are already drawn: measuring alone.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from common import measure, print_table
from pycocotools import mask as mask_utils
from skimage.color import rgb2hed
from skimage.measure import regionprops, regionprops_table

from cellseg_mm.datasets import CLASSES
from cellseg_mm.export import export_cells
from cellseg_mm.structures import Cells, Runs, decode_runs

TILE = 2000
SIDE = 48  # of the window in which a cell is drawn, in px
PROPERTIES = ('centroid', 'area', 'perimeter', 'eccentricity', 'solidity', 'intensity_mean')


class TextureSource:
    """An image of ``size`` x ``size`` px that repeats a random texture.

    Args:
        size (int): px.
    """

    pixel_size, name = 0.25, ''
    period = 512

    def __init__(self, size: int) -> None:
        self.height = self.width = size
        side = self.period + TILE + 2 * SIDE
        self._texture = np.random.default_rng(0).integers(60, 256, (side, side, 3)).astype(np.uint8)

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """A window (height, width, 3); no larger than a tile and the cells that reach beyond it."""
        x, y = x % self.period, y % self.period
        return self._texture[y : y + height, x : x + width]


def draw_cell(rng: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE) bool: a smooth irregular shape inside the border, sometimes with a hole."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    phases = rng.uniform(0, 2 * np.pi, 2)
    radius = rng.uniform(9, 16) * (1 + 0.15 * np.sin(2 * angle + phases[0]) + 0.08 * np.sin(3 * angle + phases[1]))
    outline = SIDE / 2 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    window = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(window, [np.round(outline).astype(np.int32)], 1)
    if rng.random() < 0.1:
        cv2.circle(window, (SIDE // 2, SIDE // 2), 3, 0, cv2.FILLED)
    return window.astype(bool)


def stream_cells(size: int, count: int) -> Iterator:
    """``count`` cells on ``size`` x ``size`` px, tile by tile."""
    rng = np.random.default_rng([size, count])
    shapes = [decode_runs([mask_utils.encode(np.asfortranarray(draw_cell(rng), np.uint8))]) for _ in range(64)]
    side = int(np.ceil(np.sqrt(count)))
    pitch = size / side
    grid = np.stack(np.divmod(np.arange(count), side), axis=1)
    corners = ((grid + rng.uniform(0, 1 - SIDE / pitch, grid.shape)) * pitch).astype(np.int64)
    tiles = corners // TILE
    for tile in np.unique(tiles, axis=0):
        parts = []
        for owner, (x, y) in enumerate(corners[(tiles == tile).all(axis=1)].tolist()):
            shape = shapes[rng.integers(len(shapes))]
            start = (shape.start // SIDE + x) * size + shape.start % SIDE + y
            parts.append((np.full(len(start), owner), start, shape.length))
        runs = Runs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
        yield Cells(runs, rng.integers(len(CLASSES), size=len(parts)), rng.random(len(parts), np.float32), size, size)


def export_stream(size: int, count: int, source: TextureSource) -> None:
    """Write the files with our exports."""
    with tempfile.TemporaryDirectory() as folder:
        export_cells(stream_cells(size, count), source, Path(folder), 'cells', ['geojson', 'csv'], CLASSES)


def export_naively(cells: Cells, codes: list, source: TextureSource) -> None:
    """Write one cell after another at the size of the image; only the window of the cell's box is read."""
    features = []
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / 'cells.csv', 'w', newline='') as file:
        rows = csv.writer(file)
        for code, label, score in zip(codes, cells.labels.tolist(), cells.scores.tolist(), strict=True):
            bitmap = mask_utils.decode(code)
            (region,) = regionprops(bitmap)
            top, left, bottom, right = region.bbox
            window = source.read(left, top, right - left, bottom - top)[region.image]
            values = [*region.centroid, region.area, region.perimeter, region.eccentricity, region.solidity]
            values += [*rgb2hed(window)[:, :2].mean(axis=0), window.mean()]
            rows.writerow([CLASSES[label], score, *values])
            contours, _ = cv2.findContours(bitmap, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            geometry = dict(type='Polygon', coordinates=[contour[:, 0].tolist() for contour in contours])
            features.append(dict(type='Feature', geometry=geometry, properties=dict(measurements=values)))
        (Path(folder) / 'cells.geojson').write_text(json.dumps(dict(type='FeatureCollection', features=features)))


def time_regionprops(size: int, count: int, source: TextureSource) -> float:
    """Seconds of regionprops alone, without drawing the id maps."""
    seconds = 0
    for cells in stream_cells(size, count):
        left, top = (cells.boxes()[:, :2].min(axis=0) // TILE * TILE).tolist()
        labels = np.zeros((TILE + SIDE, TILE + SIDE), np.int32)
        for number, (window, x, y) in enumerate(cells.windows(), start=1):
            labels[y - top :, x - left :][: window.shape[0], : window.shape[1]][window] = number
        image = source.read(left, top, *labels.shape[::-1])
        start = time.perf_counter()
        regionprops_table(labels, image, PROPERTIES)
        seconds += time.perf_counter() - start
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, default=20_000, help='height and width of the image in px')
    parser.add_argument('--cells', type=int, default=50_000)
    parser.add_argument('--naive-cells', type=int, default=5, help='on which the naive loop is timed')
    args = parser.parse_args()
    size, count = args.size, args.cells
    source, small = TextureSource(size), TextureSource(round(size / 5**0.5))
    sample = next(stream_cells(size, count)).select(np.arange(args.naive_cells))
    codes = sample.codes()
    measured = [
        ('ours', size, count, *measure(lambda: export_stream(size, count, source))),
        ('ours', small.width, count // 5, *measure(lambda: export_stream(small.width, count // 5, small))),
        ('naive', size, args.naive_cells, *measure(lambda: export_naively(sample, codes, source))),
        ('regionprops', size, count, time_regionprops(size, count, source), None),
    ]
    alone = measured[-1][3] / count
    rows = [
        [name, px, cells, f'{seconds:.1f}', seconds / cells * 1000, seconds / cells / alone, memory and round(memory)]
        for name, px, cells, seconds, memory in measured
    ]
    print_table(['', 'px', 'cells', 's', 'ms a cell', 'over regionprops', 'MiB'], rows)
    (_, _, _, ours, memory), (_, _, timed, naive, naive_memory) = measured[0], measured[2]
    print(f'memory_ratio {naive_memory / max(memory, 0.1):.1f}')
    print(f'ratio {naive / timed * count / ours:.1f}')


if __name__ == '__main__':
    main()
