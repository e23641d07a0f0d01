"""Correct, teach, and see other classes on the next image: with a shipped model in a headless browser."""

import json
import re
import tempfile

import pytest
from conftest import ROOT
from playwright.sync_api import expect

from cellseg_mm import CellInferencer
from cellseg_mm.app import LOWEST_SCORE, build_app, serve
from cellseg_mm.datasets import prepare
from cellseg_mm.teaching.corrections import Corrections
from cellseg_mm.weights import find_checkpoint

SAMPLES = [ROOT / 'data/samples/purple_007.png', ROOT / 'data/samples/purple_036.png']
THRESHOLD = 0.5
PATIENCE = 120_000  # ms, on a busy machine


@pytest.fixture(scope='module')
def detector():
    return CellInferencer('nuclei-lite0', score_thr=LOWEST_SCORE)


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp('corrections')


@pytest.fixture(scope='module')
def address(detector, kept, tmp_path_factory):
    folder = tmp_path_factory.mktemp('visitors')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, 'tempdir', str(folder))
        app = build_app(detector, SAMPLES, THRESHOLD, folder, kept, find_checkpoint('nuclei-lite0'))
        yield serve(app, '127.0.0.1', None)
        app.close()


@pytest.fixture
def visit(browser, address):
    """Open the page as one visitor, whose browser keeps what it stores."""
    contexts = []

    def open_page() -> object:
        contexts.append(browser.new_context(accept_downloads=True, viewport=dict(width=1400, height=1100)))
        page = contexts[-1].new_page()
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


def see(page, index):
    page.locator('#samples button img').nth(index).click()
    expect(page.locator('#status')).to_contain_text(f'in {SAMPLES[index].stem}', timeout=PATIENCE)


def says(page, text):
    expect(page.locator('#correcting')).to_contain_text(text, timeout=PATIENCE)


def click_cell(page, cells, index, changes):
    """Click the middle of a cell, and wait until it is saved."""
    window, x, y = list(cells.windows())[index]
    rows, cols = window.nonzero()
    middle = len(rows) // 2
    at_image(page, x + cols[middle] + 0.5, y + rows[middle] + 0.5, cells)
    says(page, f'{changes} changes saved')


def at_image(page, x, y, cells):
    picture = page.locator('#pad img')
    scale = picture.bounding_box()['width'] / cells.width
    picture.click(position=dict(x=x * scale, y=y * scale))  # scrolls there, and waits until nothing moves


def add_class(page, name):
    page.locator('#class-name input, #class-name textarea').first.fill(name)
    page.locator('#rename').click()
    expect(page.locator('#given')).to_contain_text(name, timeout=PATIENCE)
    expect(page.locator('#pad .keys')).to_contain_text(name, timeout=PATIENCE)


def test_correct_teach_and_come_back(visit, detector, kept, tmp_path):
    cells = detector(SAMPLES[0])
    cells = cells.select(cells.scores >= THRESHOLD)
    page = visit()
    see(page, 0)
    says(page, f'{len(cells)} cells')
    add_class(page, 'upper')
    add_class(page, 'lower')
    changes = 2
    order = cells.boxes()[:, 1].argsort()[:30]
    halves = dict(upper=order[:15], lower=order[15:])
    for name, chosen in halves.items():
        page.get_by_role('radio', name=name).check()
        for index in chosen:
            changes += 1
            click_cell(page, cells, index, changes)

    # by keyboard alone: delete the chosen cell, undo it, name another one
    page.locator('#pad .pad').press('Delete')
    says(page, f'{changes + 1} changes saved')
    page.locator('#pad .pad').press('u')
    says(page, f'{changes} changes saved')
    page.locator('#pad .pad').press('ArrowRight')
    page.locator('#pad .pad').press('2')
    changes += 1
    says(page, f'{changes} changes saved')

    # a missed cell: delete one, then drag a box around its place
    page.get_by_role('radio', name='only choose it').check()
    box = cells.boxes()[order[0]]
    at_image(page, *(box[:2] + box[2:]) / 2, cells)
    says(page, f'Cell {order[0] + 1}: upper')
    page.locator('#pad .pad').press('Delete')
    changes += 1
    says(page, f'{changes} changes saved')
    area = page.locator('#pad img').bounding_box()
    scale = area['width'] / cells.width
    page.get_by_role('radio', name='upper').check()
    page.mouse.move(area['x'] + box[0] * scale, area['y'] + box[1] * scale)
    page.mouse.down()
    page.mouse.move(area['x'] + box[2] * scale, area['y'] + box[3] * scale, steps=4)
    page.mouse.up()
    changes += 1
    says(page, f'{changes} changes saved')
    says(page, f'Cell {len(cells) + 1}: upper')

    (visitor,) = kept.iterdir()
    (steps,) = (visitor / 'steps').iterdir()
    state = Corrections.from_dict(json.loads(steps.read_text('utf-8'))).state()
    taught = [state.classes[label] for label in state.cells.labels[state.alive & state.corrected]]
    assert len(taught) in (30, 31) and set(taught) == {'upper', 'lower'}
    page.get_by_label('Cells that I left as they are teach too').uncheck()
    page.locator('#teach').click()
    expect(page.locator('#outcome')).to_contain_text(f'Taught with {len(taught)} cells', timeout=PATIENCE)
    with page.expect_download() as download:
        page.locator('#model a[download]').first.click()
    download.value.save_as(tmp_path / 'mine.pth')
    assert CellInferencer(tmp_path / 'mine.pth').classes == ('upper', 'lower')

    see(page, 1)
    expect(page.locator('#counts')).to_contain_text('upper', timeout=PATIENCE)

    says(page, 'cells. 0 changes')
    page.locator('#pad .pad').press('ArrowRight')
    page.locator('#pad .pad').press('1')
    says(page, '1 changes')

    # the same visitor comes back: nothing is lost
    page.reload()
    page.locator('#earlier input').click()
    page.get_by_role('option').filter(has_text=SAMPLES[0].stem).click()
    says(page, f'{changes} changes saved')
    # another visitor sees nothing of it
    other = visit()
    see(other, 0)
    expect(other.locator('#counts')).not_to_contain_text('upper')
    says(other, f'{len(cells)} cells. 0 changes')

    # what was saved converts and has the corrected classes
    assert re.fullmatch('[0-9a-f]{32}', visitor.name)
    prepare(visitor / 'images', tmp_path / 'set', workers=1, val_fraction=0.5)
    contents = [
        json.loads((tmp_path / f'set/annotations/{split}.json').read_text('utf-8')) for split in ('train', 'val')
    ]
    counts = []
    for content in contents:
        names = {entry['id']: entry['name'] for entry in content['categories']}
        corrected = any(SAMPLES[0].stem in image['file_name'] for image in content['images'])
        counts += [names[entry['category_id']] for entry in content['annotations'] if corrected]
    assert sorted(name for name in counts if name != 'nucleus') == sorted(taught) and len(counts) == len(cells)
