import base64
import io
import re

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from pycocotools import mask as mask_utils

from cellseg_mm.report.examples import rank
from cellseg_mm.report.pictures import outline_path, photo_source, plot_sources


def polygons(path):
    """The closed lines of a path of M, l, h and z, as arrays of points."""
    parts = []
    for part in re.findall(r'M([^z]*)z', path):
        start, _, steps = part.replace('h0', '').partition('l')
        numbers = np.array(re.findall(r'-?\d+', f'{start} {steps}'), int).reshape(-1, 2)
        parts.append(np.cumsum(numbers, axis=0).astype(np.int32))
    return parts


@pytest.mark.parametrize('seed', range(5))
def test_an_outline_filled_is_the_mask_again(seed):
    """Blobs in several parts, with holes, on the border and of single pixels."""
    rng = np.random.default_rng(seed)
    mask = (cv2.GaussianBlur(rng.random((60, 80)), (0, 0), 2.5 - seed / 2 + 0.01) > 0.5).astype(np.uint8)
    path = outline_path(mask_utils.encode(np.asfortranarray(mask)))
    filled = np.zeros_like(mask)
    cv2.fillPoly(filled, polygons(path), 1)
    holes = cv2.connectedComponents(1 - mask, connectivity=4)[0]
    assert np.array_equal(filled, mask) and holes > 2 and mask[0].any()


def test_an_outline_of_nothing_and_of_one_pixel():
    mask = np.zeros((9, 9), np.uint8)
    assert outline_path(mask_utils.encode(np.asfortranarray(mask))) == ''
    mask[2, 5] = 1
    assert outline_path(mask_utils.encode(np.asfortranarray(mask))) == 'M5 2h0z'


def test_no_image_is_chosen_twice():
    quality = np.array([0.9, np.nan, 0.1, 0.5, 0.7, 0.0, 0.8, 0.55])
    assert rank(quality, 2) == [
        *(('worst', 5), ('best', 0), ('typical', 7)),
        *(('worst', 2), ('best', 6), ('typical', 3)),
    ]
    assert rank(quality, 9) == [*rank(quality, 2), ('worst', 4)]
    assert rank(np.array([np.nan])) == [] and rank(np.array([0.5])) == [('worst', 0)]


def decode(source, kind):
    prefix = f'data:image/{kind};base64,'
    assert source.startswith(prefix)
    return base64.b64decode(source.removeprefix(prefix))


def test_a_large_image_is_made_smaller_in_its_colours(tmp_path):
    image = np.zeros((300, 500, 3), np.uint8)
    image[:, :250] = (30, 60, 200)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    for max_side, shape in ((100, (60, 100, 3)), (1000, (300, 500, 3))):
        content = np.frombuffer(decode(photo_source(tmp_path / 'a.png', max_side), 'jpeg'), np.uint8)
        read = cv2.imdecode(content, cv2.IMREAD_COLOR)
        assert read.shape == shape and np.abs(read[5, 5].astype(int) - (30, 60, 200)).max() < 8
    assert photo_source(tmp_path / 'b.png', 100) is None
    cv2.imwrite(str(tmp_path / 'strip.png'), np.zeros((2, 5000, 3), np.uint8))
    assert decode(photo_source(tmp_path / 'strip.png', 100), 'jpeg')


def test_a_figure_in_two_themes_is_the_same_every_time():
    def draw():
        figure = Figure()
        figure.add_subplot().set_title(r'$\frac$')  # broken as mathematics
        return figure

    sources = plot_sources(draw)
    assert sources == plot_sources(draw)
    texts = {theme: decode(sources[theme], 'svg+xml').decode() for theme in ('light', 'dark')}
    assert 'fill: #1d1b26' in texts['light'] and 'fill: #eceaf3' in texts['dark']
    assert all(r'$\frac$' in text for text in texts.values())
    buffer = io.BytesIO()
    Figure().savefig(buffer)  # settings are as before
    assert cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), cv2.IMREAD_COLOR)[0, 0].tolist() == [255] * 3
