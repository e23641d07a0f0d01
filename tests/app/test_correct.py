"""Correct, teach, and see other classes on the next image: with a shipped model in a headless browser."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading

import pytest
from conftest import ROOT
from playwright.sync_api import expect

from cellseg_mm import CellInferencer
from cellseg_mm.app import LOWEST_SCORE, build_app, serve
from cellseg_mm.datasets import prepare
from cellseg_mm.teaching import FeatureMemory
from cellseg_mm.teaching.corrections import Corrections
from cellseg_mm.weights import find_checkpoint

SAMPLES = [ROOT / 'data/samples/purple_007.png', ROOT / 'data/samples/purple_036.png']
THRESHOLD = 0.5
PATIENCE = 30_000  # ms, on a busy machine


expect.set_options(timeout=PATIENCE)


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
        contexts[-1].set_default_timeout(PATIENCE)
        page = contexts[-1].new_page()
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


def see(page, index):
    page.locator('#samples button img').nth(index).click()
    expect(page.locator('#status')).to_contain_text(f'in {SAMPLES[index].stem}')


def says(page, text):
    expect(page.locator('#correcting')).to_contain_text(text)


def at_image(page, x, y, cells):
    picture = page.locator('#pad img')
    scale = picture.bounding_box()['width'] / cells.width
    picture.click(position=dict(x=x * scale, y=y * scale))  # scrolls there, and waits until nothing moves


def click_cell(page, cells, index):
    """Click the middle of a cell."""
    window, x, y = list(cells.windows())[index]
    rows, cols = window.nonzero()
    middle = len(rows) // 2
    at_image(page, x + cols[middle] + 0.5, y + rows[middle] + 0.5, cells)


def drag_box(page, cells, index):
    """Drag a box around a cell."""
    left, top, right, bottom = cells.boxes()[index]
    area = page.locator('#pad img').bounding_box()
    scale = area['width'] / cells.width
    page.mouse.move(area['x'] + left * scale, area['y'] + top * scale)
    page.mouse.down()
    page.mouse.move(area['x'] + right * scale, area['y'] + bottom * scale, steps=4)
    page.mouse.up()


def add_class(page, name):
    page.locator('#class-name input, #class-name textarea').first.fill(name)
    page.locator('#rename').click()
    expect(page.locator('#given')).to_contain_text(name)
    expect(page.locator('#pad .keys')).to_contain_text(name)


def stored_state(visitor):
    """The cells of the only image of a visitor's folder."""
    (steps,) = (visitor / 'steps').iterdir()
    return Corrections.from_dict(json.loads(steps.read_text('utf-8'))).state()


def test_correct_30_cells_teach_and_come_back(visit, detector, kept, tmp_path):
    cells = detector(SAMPLES[0])
    cells = cells.select(cells.scores >= THRESHOLD)
    page = visit()
    page.set_input_files('#upload input[type=file]', SAMPLES[0])
    says(page, f'{len(cells)} cells')
    add_class(page, 'upper')
    add_class(page, 'lower')
    changes = 2
    order = cells.boxes()[:, 1].argsort()[:27]
    for name, chosen in dict(upper=order[:12], lower=order[12:24]).items():
        page.get_by_role('radio', name=name).check()
        for index in chosen:
            click_cell(page, cells, index)
            changes += 1
            says(page, f'{changes} changes saved')

    # three cells are deleted, and three boxes drawn in their places
    deleted = order[24:]
    page.get_by_role('radio', name='only choose it').check()
    for index in deleted:
        click_cell(page, cells, index)
        says(page, f'Cell {index + 1}: ')
        page.locator('#pad .pad').press('Delete')
        changes += 1
        says(page, f'{changes} changes saved')
    page.get_by_role('radio', name='lower').check()
    for number, index in enumerate(deleted, start=1):
        drag_box(page, cells, index)
        changes += 1
        says(page, f'Cell {len(cells) + number}: lower. {changes} changes saved')

    (visitor,) = kept.iterdir()
    state = stored_state(visitor)
    named = [state.classes[label] for label in state.cells.labels[state.alive & state.corrected]]
    assert sorted(named) == ['lower'] * 15 + ['upper'] * 12
    assert state.alive.sum() == len(cells) and not state.alive[deleted].any()
    page.get_by_label('Cells that I left as they are teach too').uncheck()
    page.locator('#teach').click()
    expect(page.locator('#outcome')).to_contain_text('Taught with 27 cells')
    expect(page.locator('#outcome table')).to_contain_text('named upper')
    with page.expect_download() as download:
        page.locator('#model a[download]').first.click()
    download.value.save_as(tmp_path / 'mine.pth')
    assert CellInferencer(tmp_path / 'mine.pth').classes == ('upper', 'lower')

    # the next image has the new classes
    see(page, 1)
    expect(page.locator('#counts')).to_contain_text('upper')
    says(page, 'cells. 0 changes')
    page.locator('#pad .pad').press('ArrowRight')
    page.locator('#pad .pad').press('1')
    says(page, '1 changes saved')

    # the same visitor comes back: nothing is lost
    page.reload()
    page.locator('#earlier input').click()
    page.get_by_role('option').filter(has_text=SAMPLES[0].stem).click()
    page.locator('#reopen').click()
    says(page, f'{len(cells)} cells. {changes} changes saved')
    # another visitor sees nothing of it
    other = visit()
    see(other, 0)
    expect(other.locator('#counts')).not_to_contain_text('upper')
    says(other, f'{len(cells)} cells. 0 changes')

    # what was saved converts and has the corrected classes
    assert re.fullmatch('[0-9a-f]{32}', visitor.name)
    prepare(visitor / 'images', tmp_path / 'set', workers=1, val_fraction=0.5)
    found = []
    for split in ('train', 'val'):
        content = json.loads((tmp_path / f'set/annotations/{split}.json').read_text('utf-8'))
        names = {entry['id']: entry['name'] for entry in content['categories']}
        if content['images'][0]['file_name'].startswith(SAMPLES[0].stem):
            found += [names[entry['category_id']] for entry in content['annotations']]
    assert sorted(name for name in found if name != 'nucleus') == sorted(named) and len(found) == len(cells)


def tab_to(page, selector):
    """Press Tab until the focus is on an element or within it."""
    inside = 'selector => document.activeElement.closest(selector) !== null'
    for _ in range(80):
        if page.evaluate(inside, selector):
            return
        page.keyboard.press('Tab')
    raise AssertionError(f'Tab does not lead to {selector}')


def test_by_keyboard_alone_and_others_are_answered_during_the_teaching(visit, monkeypatch, kept):
    before = set(kept.iterdir())
    page = visit()
    tab_to(page, '#samples .thumbnail-item')
    page.keyboard.press('Enter')
    says(page, f'saved in {SAMPLES[0].stem}')
    tab_to(page, '#class-name')
    page.keyboard.type('odd')
    page.keyboard.press('Enter')
    says(page, '1 changes saved')
    tab_to(page, '#pad .pad')
    for index in range(6):
        page.keyboard.press('ArrowRight')
        says(page, 'Cell ')
        page.keyboard.press('2')
        says(page, f'odd**. {2 + index} changes saved'.replace('**', ''))
    # the chosen cell stays chosen when Tab passes the list of corrected images
    page.locator('#earlier input').focus()
    tab_to(page, '#pad .pad')
    page.wait_for_timeout(500)
    page.keyboard.press('Delete')
    says(page, '8 changes saved')
    page.keyboard.press('u')
    says(page, '7 changes saved')
    page.keyboard.press('ArrowLeft')
    page.keyboard.press('Enter')  # the picked class; none is picked
    expect(page.locator('.toast-wrap')).to_contain_text('Pick a class first')
    page.keyboard.press('b')
    for key in ('ArrowLeft', 'ArrowUp', 'Shift+ArrowRight', 'Shift+ArrowDown', 'Enter'):
        page.keyboard.press(key)
    expect(page.locator('#correcting')).to_contain_text(re.compile('8 changes saved|7 changes saved'))

    # teaching waits within its first image, and the page does not
    entered, go_on = threading.Event(), threading.Event()
    see_cells = FeatureMemory.__call__

    def wait_and_see(memory, image):
        entered.set()
        assert go_on.wait(PATIENCE / 1000)
        return see_cells(memory, image)

    monkeypatch.setattr(FeatureMemory, '__call__', wait_and_see)
    try:
        tab_to(page, '#teach')
        page.keyboard.press('Enter')
        assert entered.wait(PATIENCE / 1000)
        expect(page.locator('#outcome')).to_contain_text('Seeing cells')
        other = visit()
        see(other, 1)
        says(other, '0 changes saved')
        other.locator('#pad .pad').press('ArrowRight')
        says(other, 'Cell ')
        tab_to(page, '#pad .pad')
        page.keyboard.press('ArrowRight')
        page.keyboard.press('1')
        says(page, 'nucleus')
        expect(page.locator('#outcome')).not_to_contain_text('Taught')
    finally:
        go_on.set()
    expect(page.locator('#outcome')).to_contain_text('Taught with')
    expect(page.locator('#outcome')).to_contain_text('count as right')
    tab_to(page, '#fetch')
    page.keyboard.press('Enter')
    expect(page.locator('#corrections')).to_contain_text('.geojson')
    mine = [folder for folder in set(kept.iterdir()) - before if (folder / 'steps').exists()]
    assert len(mine) == 1 and 'odd' in stored_state(mine[0]).classes  # the other visitor changed nothing


def start_app(folder, port, image):
    """tools/app.py as a process of its own; it has answered when this returns."""
    command = [sys.executable, ROOT / 'tools/app.py', '--model', 'nuclei-lite0', '--samples', image]
    command += ['--corrections', folder, '--port', port]
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout:
        if line.startswith('open '):
            return process, line.split()[1]
    raise AssertionError('the app did not start')


def test_corrections_survive_a_killed_server(browser, prepared, tmp_path):
    image = next((prepared / 'images').glob('*.png'))
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    process, address = start_app(tmp_path / 'kept', port, image)
    try:
        page = context.new_page()
        page.goto(address)
        page.locator('#samples button img').click()
        says(page, '0 changes saved')
        add_class(page, 'odd')
        page.locator('#pad .pad').press('ArrowRight')
        page.locator('#pad .pad').press('2')
        says(page, '2 changes saved')
        process.kill()
        process.wait()
        process, _ = start_app(tmp_path / 'kept', port, image)
        page.reload()
        earlier = page.locator('#earlier input')
        earlier.focus()
        expect(page.get_by_role('option')).to_have_count(1)
        # each key when the one before shows: Gradio loses keys that come within milliseconds
        page.keyboard.press('ArrowDown')
        expect(earlier).to_have_attribute('aria-activedescendant', re.compile('.'))
        page.keyboard.press('Enter')
        expect(earlier).not_to_have_value('')
        tab_to(page, '#reopen')
        page.keyboard.press('Enter')
        says(page, '2 changes saved')
        expect(page.locator('#pad .keys')).to_contain_text('odd 1')
    finally:
        process.kill()
        process.wait()
        context.close()
    (visitor,) = (tmp_path / 'kept').iterdir()
    state = stored_state(visitor)
    assert state.classes[-1] == 'odd' and (state.cells.labels == 1).sum() == 1
