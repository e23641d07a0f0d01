import numpy as np
from mmdet.structures.mask import encode_mask_results

from cellseg_mm.visualization.colors import class_colors
from cellseg_mm.visualization.draw import add_caption, contact_sheet, draw_outlines


def test_outline_lies_on_the_masks_rim_and_nowhere_else():
    image = np.zeros((20, 20, 3), np.uint8)
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 5:12, 6:14] = True
    drawn = draw_outlines(image, mask, [(10, 20, 30)])
    rim = mask[0].copy()
    rim[6:11, 7:13] = False
    assert (drawn[rim] == (10, 20, 30)).all() and not drawn[~rim].any()
    assert not image.any()


def test_enlarged_and_empty():
    image = np.full((8, 10, 3), 7, np.uint8)
    assert draw_outlines(image, np.zeros((1, 8, 10), bool), [(1, 2, 3)], scale=3).shape == (24, 30, 3)


def test_caption_keeps_the_picture_and_shows_each_colour():
    image = np.full((30, 200, 3), 128, np.uint8)
    colors = class_colors(4)
    captioned = add_caption(image, 'title', ['a', 'b', 'c', 'd'], colors)
    assert np.array_equal(captioned[:30], image) and captioned.shape[1] == 200
    for color in colors:
        assert (captioned[30:] == color).all(axis=2).any()


def test_colours_differ():
    assert len(set(class_colors(12))) == 12


def test_contact_sheet_holds_each_picture():
    pictures = [[np.full((5, 9, 3), 10 * (row * 2 + column + 1), np.uint8) for column in range(2)] for row in range(3)]
    sheet = contact_sheet(pictures, ['a', 'b'])
    for number in range(1, 7):
        assert (sheet[24:] == 10 * number).all(axis=2).sum() == 45  # below the titles


def test_run_length_codes_draw_as_their_bitmaps_do():
    masks = np.random.default_rng(0).random((4, 20, 30)) < 0.4
    masks[3] = False
    codes = encode_mask_results(masks)
    image, colors = np.zeros((20, 30, 3), np.uint8), class_colors(4)
    for scale in (1, 3):
        expected = draw_outlines(image, masks, colors, scale)
        assert expected.any() and np.array_equal(draw_outlines(image, codes, colors, scale), expected)
