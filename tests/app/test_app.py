"""The page itself, driven in a headless browser; the model is a stand-in whose cells are known."""

import json
import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from conftest import read_csv
from playwright.sync_api import expect
from pycocotools import mask as mask_utils

from cellseg_mm.app import build_app, choose, count_rows, serve
from cellseg_mm.images import open_image
from cellseg_mm.structures import Cells

CLASSES = ('epithelial', 'lymphocyte', 'rare & <b>bold</b>')
SIDE = 10  # px of a planted cell


class PlantedDetector:
    """Finds a grid of squares in any image: scores 0.05, 0.15, ..., 0.95 in two classes by turns; counts its runs.

    Of files named 'swapped' it says that red and blue are exchanged."""

    classes = CLASSES

    def __init__(self):
        self.runs = 0

    def open(self, image: object) -> object:
        if not isinstance(image, (str, Path)):
            return image
        return open_image(image, 'bgr' if Path(image).stem == 'swapped' else 'rgb')

    def describe_size(self, source: object) -> str:
        return 'shown at half its size' if source.pixel_size else ''

    def __call__(self, source: object) -> Cells:
        self.runs += 1
        return plant(source.height, source.width)


def plant(height: int, width: int) -> Cells:
    masks = np.zeros((height, width, 10), np.uint8, order='F')
    for index in range(10):
        top, left = 20 * (index // 5) + 5, 20 * (index % 5) + 5
        masks[top : top + SIDE, left : left + SIDE, index] = 1
    scores = 0.05 + 0.1 * np.arange(10)
    return Cells.from_codes(mask_utils.encode(masks), np.arange(10) % 2, scores, height, width)


@pytest.fixture(scope='module')
def detector():
    return PlantedDetector()


@pytest.fixture(scope='module')
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp('app') / 'my tissue.png'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(100, 255, (60, 120, 3), np.uint8))
    return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('visitors')


@pytest.fixture(scope='module')
def address(detector, image_file, folder):
    slide = image_file.with_name('slide.tif')
    tifffile.imwrite(slide, np.full((400, 640, 3), 200, np.uint8), photometric='rgb')
    with pytest.MonkeyPatch.context() as patch:
        # samples lie neither there nor in the working directory, and Gradio serves nothing from elsewhere
        patch.setattr(tempfile, 'tempdir', str(folder))
        app = build_app(detector, [image_file, slide], 0.5, folder)
        yield serve(app, '127.0.0.1', None)
        app.close()


@pytest.fixture
def page(browser, address):
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.hosts = set()
    page.on('request', lambda request: page.hosts.add(request.url.split('/')[2]) if '//' in request.url[:9] else None)
    page.goto(address)
    yield page
    context.close()


def upload(page, path) -> None:
    page.set_input_files('#upload input[type=file]', str(path))


def clear(page) -> None:
    page.locator('#upload').get_by_label('Clear').click()


def set_threshold(page, value: float) -> None:
    page.fill('#threshold input[type=number]', str(value))
    page.keyboard.press('Tab')


def shows(page, text: str) -> None:
    expect(page.locator('#status')).to_contain_text(text, timeout=20_000)


def test_upload_move_the_threshold_choose_a_class_and_take_the_files_home(page, image_file, detector, folder, tmp_path):
    before = detector.runs
    upload(page, image_file)
    shows(page, '5 cells in my tissue, 120 x 60 px, at score 0.50')
    expect(page.locator('#counts')).to_contain_text('lymphocyte')
    set_threshold(page, 0.7)
    shows(page, '3 cells')
    set_threshold(page, 0.3)
    shows(page, '7 cells')
    page.get_by_label('epithelial').uncheck()
    shows(page, '4 cells')
    assert detector.runs == before + 1  # the model ran once

    page.click('#make')
    files = {}
    for suffix in ('.geojson', '.csv', '_labels.tif'):
        link = page.locator(f'#files a[download$="{suffix}"]').first
        link.wait_for(timeout=20_000)
        with page.expect_download() as download:
            link.click()
        files[suffix] = tmp_path / f'got{suffix}'
        download.value.save_as(files[suffix])
    features = json.loads(files['.geojson'].read_text('utf-8'))['features']
    assert [feature['properties']['classification']['name'] for feature in features] == ['lymphocyte'] * 4
    assert [float(row['area_px']) for row in read_csv(files['.csv'])] == [SIDE**2] * 4
    assert np.bincount(tifffile.imread(files['_labels.tif']).ravel())[1:].tolist() == [SIDE**2] * 4

    set_threshold(page, 0.9)
    shows(page, '1 cell')
    expect(page.locator('#files a[download]')).to_have_count(0)  # files of another choice do not stay
    assert page.hosts == {page.url.split('/')[2]}  # nothing was fetched from elsewhere
    # what a visitor brought and took lies where it will be removed
    assert any(folder.rglob(image_file.name)) and any(folder.rglob('*.geojson'))


@pytest.mark.parametrize('choose', [lambda sample: sample.click(), lambda sample: sample.press('Enter')])
def test_a_sample_is_chosen_by_a_click_or_a_key_and_seen_once(page, image_file, detector, choose):
    pictures, before = page.locator('#samples button img'), detector.runs
    expect(pictures).to_have_count(2)
    choose(page.locator('#samples .thumbnail-item').first)
    shows(page, '5 cells in my tissue')
    assert pictures.last.evaluate(
        'async picture => (await picture.decode(), [picture.naturalWidth, picture.naturalHeight])'
    ) == [213, 133]
    page.wait_for_timeout(500)  # for a second event
    assert detector.runs == before + 1
    assert image_file.exists()


def test_files_with_red_and_blue_exchanged_are_shown_right_and_it_is_said(page, image_file, tmp_path):
    swapped = tmp_path / 'swapped.png'
    cv2.imwrite(str(swapped), np.full((60, 120, 3), (30, 60, 200), np.uint8)[..., ::-1])
    upload(page, swapped)
    shows(page, 'at score 0.50. red and blue exchanged in the file, corrected')
    corner = """async picture => {
        await picture.decode()
        const canvas = document.createElement('canvas'), context = canvas.getContext('2d')
        context.drawImage(picture, 0, 0)
        return Array.from(context.getImageData(0, 0, 1, 1).data).slice(0, 3)
    }"""
    red, _, blue = page.locator('#picture img').evaluate(corner)
    assert red > 150 > 50 > blue


def test_a_given_pixel_size_replaces_that_of_the_file(page, image_file, detector, tmp_path):
    said = tmp_path / 'said.tif'
    picture = np.random.default_rng(0).integers(100, 255, (60, 120, 3)).astype(np.uint8)
    tifffile.imwrite(said, picture, photometric='rgb', resolution=(40000, 40000), resolutionunit='CENTIMETER')
    upload(page, said)
    shows(page, '5 cells in said, 120 x 60 px, 0.25 um a px, at score 0.50. shown at half its size.')
    page.reload()
    upload(page, image_file)
    shows(page, '5 cells in my tissue, 120 x 60 px, at score 0.50.')
    field, before = page.locator('#pixel-size textarea, #pixel-size input'), detector.runs
    field.fill('0.5')
    field.press('Enter')
    shows(page, '120 x 60 px, 0.5 um a px, at score 0.50. shown at half its size.')
    assert detector.runs == before + 1
    page.click('#make')
    link = page.locator('#files a[download$=".csv"]').first
    with page.expect_download() as download:
        link.click(timeout=20_000)
    download.value.save_as(tmp_path / 'got.csv')
    assert [float(row['area_um2']) for row in read_csv(tmp_path / 'got.csv')] == [SIDE**2 / 4] * 5
    clear(page)
    upload(page, said)  # it counts for all images, as --pixel-size does
    shows(page, '5 cells in said, 120 x 60 px, 0.5 um a px')
    for text, message in (
        ('50', 'invalid pixel size 50: it must be from 0.02 to 20 um'),
        ('nan', 'invalid pixel size nan: it must be'),
        ('0,5', 'invalid pixel size 0,5: give a number of um, such as 0.25'),
    ):
        field.fill(text)
        field.press('Enter')
        expect(page.locator('.toast-wrap')).to_contain_text(message, timeout=20_000)
    field.fill('')
    field.press('Enter')
    shows(page, '5 cells in said, 120 x 60 px, 0.25 um a px')


def test_bad_uploads_give_a_message_and_the_server_goes_on(page, image_file, tmp_path):
    text, pixel, huge = tmp_path / 'notes.txt', tmp_path / 'pixel.png', tmp_path / 'huge.png'
    text.write_text('no image')
    cv2.imwrite(str(pixel), np.zeros((1, 1, 3), np.uint8))
    with open(huge, 'wb') as file:
        os.truncate(file.fileno(), 200 * 2**20)
    for path, message in ((text, 'notes.txt'), (pixel, 'pixel.png: 1x1 px'), (huge, 'maximum')):
        upload(page, path)
        expect(page.locator('.toast-wrap')).to_contain_text(message, timeout=30_000)
        page.reload()
    upload(page, image_file)
    shows(page, '5 cells')


def test_choose_keeps_classes_and_scores_from_the_threshold_on():
    cells = choose(plant(60, 120), [1], 0.5)
    assert cells.labels.tolist() == [1, 1, 1]
    assert cells.scores.tolist() == pytest.approx([0.55, 0.75, 0.95])
    assert len(choose(cells, [], 0)) == 0


def test_counts_are_by_class_and_in_all():
    rows = count_rows(choose(plant(60, 120), [0, 1], 0.7), CLASSES)
    assert rows == [
        ['epithelial', 1, 33.3, 100.0, 0.85],
        ['lymphocyte', 2, 66.7, 100.0, 0.85],
        ['all', 3, 100.0, 100.0, 0.85],
    ]
    assert count_rows(choose(plant(60, 120), [2], 0), CLASSES) == [['all', 0, 0.0, None, None]]
