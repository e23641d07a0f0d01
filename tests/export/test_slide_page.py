"""The page that shows a slide: its files, and what a browser makes of them without a server."""

import hashlib
import itertools
import json
import os
import re
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
import shapely
from conftest import ROOT
from drawn_cells import CLASSES, draw_masks, make_cells, make_source
from playwright.sync_api import expect

from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.export import export_cells, image_pyramid, slide_page, trace_outlines, writer
from cellseg_mm.export.density import count_by_place
from cellseg_mm.export.image_pyramid import write_pyramid
from cellseg_mm.images import ArraySource
from cellseg_mm.structures import Cells
from cellseg_mm.utils import UserError


def content_of(page):
    """The data in a page."""
    return json.loads(re.search(r'^const slide = (.*);$', page.read_text('utf-8'), re.M)[1])


def polygon_of(rings):
    """The polygons of a cell in a script; rings inside others are holes."""
    shape = shapely.Polygon()
    for x, y, *moves in rings:
        points = [[x, y]]
        for index, move in enumerate(moves):
            points.append([points[-1][0] + move * (index % 2 == 0), points[-1][1] + move * (index % 2)])
        shape = shapely.symmetric_difference(shape, shapely.Polygon(points))
    return shape


def read_cells(folder):
    """{block: cells} of all scripts."""
    found = {}
    for path in (folder / 'cells').iterdir():
        name, cells = re.fullmatch(r'addCells\("(\d+_\d+)",(.*)\)\n', path.read_text(), re.S).groups()
        assert path.stem == name
        found[name] = json.loads(cells)
    return found


@pytest.mark.parametrize('parts', [[9], [3, 0, 5, 1]])
def test_scripts_hold_the_outlines_of_the_cells_in_their_squares(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(slide_page, 'BLOCK_SIDE', 128)
    monkeypatch.setattr(writer, 'CHUNK', 4)
    cells, ends = make_cells(draw_masks()), np.cumsum(parts)
    stream = (cells.select(np.arange(end - size, end)) for size, end in zip(parts, ends, strict=True))
    export_cells(stream, make_source(pixel_size=0.5), tmp_path, 'cut', ['slide'], CLASSES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['cut_slide', 'cut_slide.html']
    content, blocks = content_of(tmp_path / 'cut_slide.html'), read_cells(tmp_path / 'cut_slide')
    assert content['blocks'] == sorted(blocks)
    found = {number: (block, label, rings) for block, own in blocks.items() for label, number, *rings in own}
    outlines, centroids = trace_outlines(cells), cells.runs.centroids(9, cells.height) + 0.5
    for index, outline in enumerate(outlines):
        block, label, rings = found[index + 1]
        assert label == cells.labels[index] and shapely.equals(polygon_of(rings), outline)
        assert block == '_'.join(str(int(place // 128)) for place in centroids[index])
    assert [entry['count'] for entry in content['classes']] == np.bincount(cells.labels).tolist()
    expected = count_by_place(centroids, cells.labels, len(CLASSES), cells.height, cells.width)
    assert content['density'] == expected.tolist()


def test_levels_are_the_image_at_halves_of_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(image_pyramid, 'TILE', 64)
    image = cv2.GaussianBlur(draw_tissue(np.random.default_rng(0), 333, 481)[0], (0, 0), 12)
    sizes = write_pyramid(ArraySource(image), tmp_path)
    assert sizes == [(481, 333), (241, 167), (121, 84), (61, 42)]
    for level, (width, height) in enumerate(sizes):
        shown = np.zeros((height, width, 3), np.uint8)
        for path in (tmp_path / str(level)).iterdir():
            column, row = map(int, path.stem.split('_'))
            tile = cv2.imread(str(path))[..., ::-1]
            place = shown[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64]
            assert tile.shape == place.shape
            place[:] = tile
        # means of squares; the last px of odd sides counts more than once
        bottom, right = (height << level) - 333, (width << level) - 481
        filled = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        expected = cv2.resize(filled, (width, height), interpolation=cv2.INTER_AREA)
        assert np.abs(shown.astype(int) - expected).mean() < 3  # of JPEG


def test_texts_cannot_end_the_script(tmp_path):
    source = make_source()
    source.name = '</script><script>alert(1)</script>.tif'
    export_cells([], source, tmp_path, 'cut', ['slide'], ['</script>'])
    page = (tmp_path / 'cut_slide.html').read_text('utf-8')
    assert page.count('</script>') == 2 and content_of(tmp_path / 'cut_slide.html')['name'] == source.name


def test_the_name_of_an_image_may_hold_any_character(tmp_path):
    stem = 'a#1 50% "x"?'
    export_cells([], make_source(), tmp_path, stem, ['slide'], ['cell'])
    library = re.search('<script src="(.*)"></script>', (tmp_path / f'{stem}_slide.html').read_text('utf-8'))[1]
    assert (tmp_path / unquote(library)).is_file() and not set(library) & set('#?" ')


def test_a_repeated_export_replaces_the_folder(tmp_path):
    for stream in ([make_cells(draw_masks())], []):
        export_cells(stream, make_source(), tmp_path, 'cut', ['slide'], CLASSES)
    assert not list((tmp_path / 'cut_slide/cells').iterdir())


def test_a_folder_of_that_name_that_is_the_users_stays(tmp_path):
    (tmp_path / 'cut_slide').mkdir()
    (tmp_path / 'cut_slide/notes.txt').write_text('mine')

    def stream():
        raise AssertionError('refused before the first cell')
        yield

    with pytest.raises(UserError, match='cut_slide: a folder that cellseg_mm did not write; move it'):
        export_cells(stream(), make_source(), tmp_path, 'cut', ['csv', 'slide'], CLASSES)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob('*'))] == [
        'cut_slide',
        'cut_slide/notes.txt',
    ]


def content_of_folder(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob('*')}


@pytest.mark.parametrize('where', ['stream', 'pyramid', 'move'])
def test_an_interrupted_export_leaves_the_earlier_folder_whole(where, tmp_path, monkeypatch):
    export_cells([make_cells(draw_masks())], make_source(), tmp_path, 'cut', ['slide'], CLASSES)
    before = content_of_folder(tmp_path)

    def stop(*arguments):
        raise KeyboardInterrupt

    def stream():
        yield make_cells(draw_masks()[:3])
        if where == 'stream':
            stop()

    if where == 'pyramid':
        monkeypatch.setattr(slide_page, 'write_pyramid', stop)
    if where == 'move':  # between the earlier folder's leaving and the new one's coming
        moves = itertools.count()
        replace = os.replace
        monkeypatch.setattr(os, 'replace', lambda *ends: stop() if next(moves) == 1 else replace(*ends))
    with pytest.raises(KeyboardInterrupt):
        export_cells(stream(), make_source(), tmp_path, 'cut', ['slide'], CLASSES)
    assert content_of_folder(tmp_path) == before


def test_the_library_is_the_one_in_notice():
    digest = hashlib.sha256(slide_page.LIBRARY.read_bytes()).hexdigest()
    notice = (ROOT / 'NOTICE').read_text('utf-8')
    assert digest in notice and 'cellseg_mm/export/static/openseadragon.min.js' in notice
    assert slide_page.LICENCE.exists()


@pytest.fixture(scope='module')
def slide(tmp_path_factory):
    """The page of an image with 1,980 squares in two classes by turns."""
    out, height, width, side = tmp_path_factory.mktemp('slide'), 2000, 4800, 20
    places = np.mgrid[20 : height - 20 : 60, 20 : width - 20 : 80].reshape(2, -1).T.tolist()
    masks = [dict(size=[height, width], counts=_square(x, y, side, height, width)) for y, x in places]
    cells = Cells.from_codes(masks, np.arange(len(masks)) % 2, [0.9] * len(masks), height, width)
    image = np.full((height, width, 3), (225, 160, 200), np.uint8)
    for y, x in places:
        image[y : y + side, x : x + side] = (100, 60, 150)
    source = ArraySource(image, 0.25, name='tissue.svs')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slide_page, 'BLOCK_SIDE', 256)
        export_cells([cells], source, out, 'tissue', ['slide'], ['epithelial', 'lymphocyte'])
    return out / 'tissue_slide.html', len(masks)


def _square(x, y, side, height, width):
    """The code of a square."""
    from pycocotools import mask as mask_utils

    counts = [x * height + y, *([side, height - side] * (side - 1)), side]
    counts.append(height * width - sum(counts))
    return mask_utils.frPyObjects(dict(size=[height, width], counts=counts), height, width)['counts'].decode()


@pytest.fixture(scope='module')
def page(browser, slide):
    page = browser.new_page(viewport=dict(width=1200, height=700))
    page.problems, page.addresses = [], set()
    page.on('console', lambda message: message.type == 'error' and page.problems.append(message.text))
    page.on('pageerror', lambda error: page.problems.append(str(error)))
    page.on('request', lambda request: page.addresses.add(request.url.split(':')[0]))
    page.goto(slide[0].as_uri())
    return page


def drawn(page):
    return page.evaluate('slide.drawn')


def test_the_page_opens_from_the_disk_zooms_to_a_cell_and_switches_classes(page, slide):
    _, count = slide
    expect(page.locator('#facts')).to_contain_text(f'{count:,} cells; 4,800 x 2,000 px, 0.25 µm a px')
    expect(page.locator('#status')).to_have_text('Zoom in for the outlines.')
    page.wait_for_function('viewer.world.getItemCount() && viewer.world.getItemAt(0).getFullyLoaded()')
    assert not drawn(page)['close']
    heat = page.evaluate("[...marks.getContext('2d').getImageData(marks.width / 2, marks.height / 2, 1, 1).data]")
    assert heat[3] > 100  # cells lie densely there

    # to the cell whose corner is (3620, 1520), 20 px a side
    page.evaluate(
        'viewer.viewport.fitBounds(viewer.world.getItemAt(0).imageToViewportRectangle(3600, 1500, 60, 60), true)'
    )
    page.wait_for_function('slide.drawn.close && slide.drawn.blocks > 0 && slide.drawn.zoom > 5')
    expect(page.locator('#status')).to_be_empty()
    both = drawn(page)['cells']
    edge = page.evaluate(
        """() => {
            const corner = new OpenSeadragon.Point(3630, 1520);
            const point = viewer.world.getItemAt(0).imageToViewerElementCoordinates(corner);
            return [...marks.getContext('2d').getImageData(point.x, point.y, 1, 1).data];
        }"""
    )
    assert edge[3] > 200  # the cell's upper edge
    page.get_by_label('lymphocyte').uncheck()
    page.wait_for_function(f'slide.drawn.cells < {both}')
    page.keyboard.press('2')
    page.wait_for_function(f'slide.drawn.cells === {both}')
    page.keyboard.press('o')
    page.wait_for_function('slide.drawn.cells === 0')
    page.keyboard.press('o')
    page.keyboard.press('0')
    page.wait_for_function('!slide.drawn.close')
    assert page.problems == [] and page.addresses == {'file'}


def test_each_class_has_its_density_over_the_thumbnail_and_can_be_shown_alone(page):
    expect(page.locator('#maps button')).to_have_count(2)
    # a class has every other column of cells: of 126 x 125 px, one column and at most three of its cells
    densest = round(3 / (2000 * 4800 / (16 * 38) * 0.25**2 / 1e6))
    one = page.get_by_role('button', name='lymphocyte')
    expect(one).to_contain_text(f'up to {densest:,} per mm²')
    assert one.locator('img').evaluate('image => image.complete && image.naturalWidth') == 300
    heat = "[...heat.getContext('2d').getImageData(0, 0, 38, 16).data].filter((_, index) => index % 4 === 3)"
    both = page.evaluate(heat)
    one.focus()
    page.keyboard.press('Enter')
    expect(one).to_have_attribute('aria-pressed', 'true')
    expect(page.get_by_label('epithelial')).not_to_be_checked()
    expect(page.locator('#most')).to_have_text(f'{densest:,} per mm²')
    alone = page.evaluate(heat)
    assert sum(value > 0 for value in alone) < sum(value > 0 for value in both)
    page.keyboard.press('Shift+Digit1')
    expect(one).to_have_attribute('aria-pressed', 'false')
    expect(page.get_by_label('lymphocyte')).not_to_be_checked()
    page.keyboard.press('Shift+Digit1')
    expect(page.get_by_label('lymphocyte')).to_be_checked()
    assert page.evaluate(heat) == both and page.problems == []
