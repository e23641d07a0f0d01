"""Cells drawn by code with what masks can have: holes, several parts, overlaps, the image's border, a single pixel."""

from types import SimpleNamespace

import numpy as np
from mmdet.structures.mask import encode_mask_results

from cellseg_mm.structures import Cells

CLASSES = ('epithelial', 'lymphocyte', 'neutrophil', 'macrophage')
HEIGHT, WIDTH = 40, 530  # wider than a tile of the label images


def draw_masks() -> np.ndarray:
    """(9, H, W) bool."""
    rows, cols = np.ogrid[:HEIGHT, :WIDTH]
    masks = np.zeros((9, HEIGHT, WIDTH), bool)
    masks[0] = np.hypot(cols - 20, rows - 18) < 12
    masks[1] = np.hypot((cols - 28) / 1.5, rows - 20) < 8  # over a part of the one before
    masks[2] = (np.hypot(cols - 80, rows - 15) < 13) & (np.hypot(cols - 82, rows - 14) > 5)  # a hole
    masks[3] = np.abs(cols - 130) + np.abs(rows - 20) == 6  # pixels that touch by corners around a hole
    masks[4, 5:12, 200:204] = masks[4, 20:31, 208:215] = True  # two parts
    masks[5, :, 505:520] = True  # from border to border, over two tiles, runs over the ends of columns
    masks[6, 39, 0] = True
    masks[7, 3, 300:310] = True
    masks[8] = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.6
    masks[8, :, :400] = masks[8, :, 430:] = False
    return masks


def make_cells(masks: np.ndarray, labels: list | None = None, scores: list | None = None) -> Cells:
    """Cells of (N, H, W) bool masks; classes in turn and falling scores unless given."""
    codes = encode_mask_results(masks)
    labels = np.arange(len(masks)) % len(CLASSES) if labels is None else labels
    scores = np.linspace(0.987654321, 0.3, len(masks)) if scores is None else scores
    return Cells.from_codes(codes, labels, scores, *masks.shape[1:])


def make_source(image: np.ndarray | None = None, pixel_size: float | None = None) -> SimpleNamespace:
    """An image source of (H, W, 3) uint8, random by default, that keeps the sizes of the windows read."""
    if image is None:
        image = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    height, width = image.shape[:2]
    windows_read = []

    def read(x: int, y: int, window_width: int, window_height: int) -> np.ndarray:
        assert 0 <= x < x + window_width <= width and 0 <= y < y + window_height <= height
        windows_read.append((window_width, window_height))
        return image[y : y + window_height, x : x + window_width]

    size = dict(height=height, width=width, pixel_size=pixel_size)
    return SimpleNamespace(**size, read=read, name='image 1.tif', windows_read=windows_read)
