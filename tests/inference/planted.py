"""Images whose colours are the ids of planted cells, and detectors that read them off: pure functions of a window."""

import cv2
import numpy as np
from skimage.measure import label

from cellseg_mm.structures import Cells, Runs, encode_instances, relabel


class PlantedImage:
    """A source of windows of an id map (H, W) of int32 below 2^24, 0 background, shown as colours."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids
        self.height, self.width = ids.shape

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        assert x >= 0 and y >= 0 and x + width <= self.width and y + height <= self.height
        ids = self.ids[y : y + height, x : x + width]
        # background white, so that the test for blank tiles sees it as glass
        colours = np.where(ids > 0, ids, 0xFFFFFF)
        return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=2).astype(np.uint8)


def read_ids(image: np.ndarray) -> np.ndarray:
    """(H, W) ids of such a window."""
    red, green, blue = np.moveaxis(image.astype(np.int32), 2, 0)
    ids = red << 16 | green << 8 | blue
    return np.where(ids == 0xFFFFFF, 0, ids)


def find_cells(image: np.ndarray) -> tuple:
    """The ids in a window (N,), and what is to be seen of them as cells."""
    ids = read_ids(image)
    numbers, count = relabel(ids)
    present = np.unique(ids)
    present = present[present > 0]
    codes = encode_instances(numbers, count)
    return present, Cells.from_codes(codes, present % 4, score_of(present), *ids.shape)


def score_of(ids: np.ndarray) -> np.ndarray:
    return (0.5 + ids % 97 / 200).astype(np.float32)


def planted_ids(cells: Cells, ids: np.ndarray) -> np.ndarray:
    """(N,) id of the planted cell that each cell is, pixel by pixel; 0 for one that is none."""
    owner = np.repeat(cells.runs.owner, cells.runs.length)
    under = ids.T.ravel()[cells.runs.places()]
    found = np.zeros(len(cells), np.int64)
    found[owner] = under
    impure = np.bincount(owner, under != found[owner], len(cells)) > 0
    whole = np.bincount(ids.ravel())[found] == cells.areas()
    return np.where(whole & ~impure, found, 0)


def oracle(images: list) -> list:
    """Finds each visible part of a planted cell; the label is the id modulo 4."""
    return [find_cells(image)[1] for image in images]


def plant_cells(size: int, pitch: int, seed: int, large: int, span: tuple) -> np.ndarray:
    """An id map (size, size) full of touching cells, and larger ones laid over them; each is connected.

    Args:
        size (int): Px.
        pitch (int): Mean distance of the small cells, px; there are (size / pitch)^2.
        seed (int): Of all that is random.
        large (int): Number of larger cells, by turns ellipses and rings.
        span (tuple): Their least and largest diameter, px.
    """
    rng = np.random.default_rng(seed)
    side = size // pitch
    centres = (np.stack(np.mgrid[:side, :side], axis=2) + 0.5 + rng.uniform(-0.35, 0.35, (side, side, 2))) * pitch
    sources = np.ones((size, size), np.uint8)
    rows, cols = np.round(centres).astype(int).reshape(-1, 2).T
    sources[rows, cols] = 0
    # cells of a Voronoi diagram: everything touches something
    _, ids = cv2.distanceTransformWithLabels(sources, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    ids = np.ascontiguousarray(ids)
    for number in range(large):
        centre = rng.integers(0, size, 2).tolist()
        axes = (rng.uniform(*span, 2) / 2).astype(int).tolist()
        thickness = (cv2.FILLED, 9)[number % 2]
        cv2.ellipse(ids, centre, axes, rng.uniform(0, 180), 0, 360, side * side + 1 + number, thickness)
    return label(ids, connectivity=1).astype(np.int32)


def blurred_oracle(images: list) -> list:
    """As a real detector errs: each mask is moved by a pixel, scores and labels are random, and of the cells that are
    cut at the window's border, but for those of 40 px across or more, every third is missed.

    What it draws depends on the window alone.
    """
    return [_blurred(image) for image in images]


def _blurred(image: np.ndarray) -> Cells:
    _, cells = find_cells(image)
    rng = np.random.default_rng([int(image.sum()), *image.shape])
    height, width = image.shape[:2]
    boxes = cells.boxes()
    cut = (boxes[:, :2] == 0).any(axis=1) | (boxes[:, 2:] == (width, height)).any(axis=1)
    small = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) < 40
    cells = cells.select(~(cut & small & (rng.random(len(cells)) < 1 / 3)))
    x_move, y_move = rng.integers(-1, 2, (2, len(cells)))
    owner, start, length = cells.runs.split_at_columns(height)
    col, row = np.divmod(start, height)
    col, first, last = col + x_move[owner], row + y_move[owner], row + y_move[owner] + length
    first, last = first.clip(0, height), last.clip(0, height)
    inside = (col >= 0) & (col < width) & (first < last)
    runs = Runs(owner[inside], (col * height + first)[inside], (last - first)[inside])
    scores = rng.random(len(cells)).astype(np.float32)
    return Cells(runs, rng.integers(0, 4, len(cells)), scores, height, width)
