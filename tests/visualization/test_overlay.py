import numpy as np
from pycocotools import mask as mask_utils

from cellseg_mm.structures import Cells
from cellseg_mm.visualization import Overlay, draw_cells
from cellseg_mm.visualization.colors import class_colors
from cellseg_mm.visualization.draw import draw_outlines

CLASSES = ['a', 'b', 'c']
COLORS = class_colors(3)


def random_cells(height: int, width: int, count: int = 12) -> Cells:
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:height, :width]
    masks = np.zeros((height, width, count), np.uint8, order='F')
    for index in range(count):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        distance = np.hypot(cols - x, rows - y)
        masks[..., index] = (distance < 30) & ((distance > 12) | (index % 2 == 0))  # every other one is a ring
    return Cells.from_codes(mask_utils.encode(masks), np.arange(count) % 2, np.ones(count), height, width)


def test_outlines_are_the_masks_rims_in_the_colour_of_the_class():
    image, cells = np.zeros((600, 700, 3), np.uint8), random_cells(600, 700)
    expected = draw_outlines(image, cells.codes(), [COLORS[label] for label in cells.labels])
    picture = draw_cells(image, cells, CLASSES)
    assert np.array_equal(picture[:600], expected) and not image.any()


def test_parts_of_a_stream_add_up():
    image, cells = np.full((100, 130, 3), 9, np.uint8), random_cells(100, 130)
    overlay = Overlay(image, CLASSES)
    for index in range(len(cells)):
        overlay.add(cells.select(np.array([index])))
    assert np.array_equal(overlay.picture('12 cells'), draw_cells(image, cells, CLASSES))


def test_the_legend_counts_each_class(monkeypatch):
    legends = []
    monkeypatch.setattr('cellseg_mm.visualization.overlay.add_caption', lambda *arguments: legends.append(arguments))
    draw_cells(np.zeros((600, 700, 3), np.uint8), random_cells(600, 700).select(np.arange(7)), CLASSES)
    assert legends[0][1:] == ('7 cells', ['a 4', 'b 3', 'c 0'], COLORS)


def test_outlines_lie_where_the_cells_are_whatever_the_size_of_the_picture():
    square = np.zeros((1000, 1200, 1), np.uint8, order='F')
    square[300:900, 600:1100] = 1
    cells = Cells.from_codes(mask_utils.encode(square), [0], [1], 1000, 1200)
    overlay = Overlay(np.zeros((250, 300, 3), np.uint8), CLASSES, shrink=4)  # which is shown twice as large
    overlay.add(cells)
    drawn = (overlay.picture('')[:500] == COLORS[0]).all(axis=2)
    rows, cols = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    assert np.abs([rows[0] - 150, rows[-1] - 450, cols[0] - 300, cols[-1] - 550]).max() <= 1
    assert not drawn[153:447, 303:547].any()
