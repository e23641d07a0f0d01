#!/usr/bin/env python3
"""Teach 500 corrected cells in the app, and look at another image, in headless Chromium.

Seconds are from the click on Teach the model to the saved checkpoint: features, fit, and the comparison on held-out
cells. Meanwhile keys are pressed in the same page; each answer is timed. The classes are large and small nuclei, by the
median area of all. Each image has its mirror image beside it, so that the samples have enough cells. --pictures writes
the pictures of docs/teach.md, and leaves the mirror images out:

    python benchmarks/teach.py data/samples/purple_???.png data/samples/white_100.png --pictures docs/images
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import print_table
from playwright.sync_api import Page, sync_playwright

from cellseg_mm import CellInferencer
from cellseg_mm.app import LOWEST_SCORE
from cellseg_mm.app.visitor import Visitor
from cellseg_mm.images import ArraySource, open_image
from cellseg_mm.inference.input_files import find_images

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / 'data/samples'
CLASSES = ('large', 'small')
PATIENCE = 120_000  # ms
JPEG = dict(type='jpeg', quality=80)
VIEWPORT = dict(width=1280, height=800)


def correct(visitor: Visitor, detector: CellInferencer, sources: list, limit: int) -> int:
    """Name the cells of images in a visitor's folder by their areas, until there are enough; their number."""
    found = [cells.select(cells.scores >= detector.validated_thr) for cells in map(detector, sources)]
    areas = [cells.areas() for cells in found]
    middle, left = np.median(np.concatenate(areas)), limit
    for source, cells, sizes in zip(sources, found, areas, strict=True):
        image = source.read(0, 0, source.width, source.height)
        key, before = visitor.begin(Path(source.name).stem, image, cells, detector.classes)
        after = before.after(kind='rename', label=0, name=CLASSES[0]).after(kind='class', name=CLASSES[1])
        for index, size in enumerate(sizes[:left]):
            after = after.after(kind='name', cell=index, label=int(size < middle))
        visitor.save(key, source, before, after)
        left -= min(left, len(cells))
        if not left:
            break
    return limit - left


def doubled(source: ArraySource) -> ArraySource:
    """An image with its mirror image to the right."""
    image = source.read(0, 0, source.width, source.height)
    return ArraySource(np.concatenate([image, image[:, ::-1]], axis=1), name=source.name)


def press(page: Page) -> float:
    """Choose the next cell by a key; seconds until the page says which it is."""
    before = page.locator('#correcting').inner_text()
    start = time.perf_counter()
    page.locator('#pad .pad').press('ArrowRight')
    page.wait_for_function('before => document.querySelector("#correcting").innerText !== before', arg=before)
    return time.perf_counter() - start


def see(page: Page, path: Path) -> None:
    """Upload an image, and wait until its cells can be corrected."""
    page.set_input_files('#upload input[type=file]', path)
    page.locator('#correcting', has_text=f'saved in {path.stem}').wait_for()


def run(page: Page, kept: Path, args: argparse.Namespace) -> tuple:
    """The loop; the number of cells, the seconds, and the answers' seconds before and during the teaching."""
    *paths, last = find_images(args.images)
    see(page, last)
    press(page)
    page.locator('#pad .pad').press('1')  # a change, so that the visitor has a folder
    page.locator('#correcting', has_text='1 changes saved').wait_for()
    detector = CellInferencer(args.checkpoint, score_thr=LOWEST_SCORE)
    visitor = Visitor(kept, next(kept.iterdir()).name, args.checkpoint, detector, CellInferencer)
    sources = [source if args.pictures else doubled(source) for source in map(open_image, paths)]
    page.locator('#undo').click()
    page.locator('#correcting', has_text='0 changes saved').wait_for()
    count = correct(visitor, detector, sources, args.cells)

    page.reload()
    page.locator('#earlier input').click()
    page.get_by_role('option').filter(has_text=paths[0].stem).click()
    page.locator('#reopen').click()
    page.locator('#pad .keys', has_text=CLASSES[1]).wait_for()
    page.get_by_label('Cells that I left as they are teach too').uncheck()
    before, during = [press(page) for _ in range(5)], []
    take(page, args.pictures, 'teach_correct', '#given')
    page.locator('#teach').click()
    start = time.time()
    while not visitor.taught.exists():
        during.append(press(page))
    seconds = visitor.taught.stat().st_mtime - start
    page.locator('#outcome', has_text=f'Taught with {count}').wait_for()
    take(page, args.pictures, 'teach_outcome', '#teach')
    see(page, last)
    page.locator('#status', has_text=last.stem).wait_for()
    page.locator('#counts', has_text=CLASSES[0]).wait_for()
    take(page, args.pictures, 'teach_next', '#status')
    return count, seconds, before, during


def take(page: Page, folder: Path | None, name: str, selector: str) -> None:
    """Write a picture of what a visitor sees, with an element at the top."""
    if folder:
        page.locator(selector).evaluate('element => window.scrollBy(0, element.getBoundingClientRect().top - 60)')
        page.wait_for_timeout(1000)
        page.screenshot(path=folder / f'{name}.jpg', **JPEG)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', nargs='*', default=[SAMPLES], help='files and folders; the last image does not teach')
    parser.add_argument('--checkpoint', default='nuclei-lite0', help='(default: %(default)s)')
    parser.add_argument('--cells', type=int, default=500, help='at most (default: %(default)s)')
    parser.add_argument('--pictures', type=Path, metavar='DIR', help='a folder for pictures of the page')
    args = parser.parse_args()
    browser_file = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        kept = Path(folder)
        command = [sys.executable, ROOT / 'tools/app.py', args.checkpoint, '--corrections', kept]
        app = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        browser = playwright.chromium.launch(executable_path=browser_file, args=['--no-sandbox', '--disable-gpu'])
        try:
            page = browser.new_page(viewport=VIEWPORT)
            page.set_default_timeout(PATIENCE)
            page.goto(next(line.split()[1] for line in app.stdout if line.startswith('open ')))
            count, seconds, before, during = run(page, kept, args)
        finally:
            browser.close()
            app.send_signal(signal.SIGTERM)
            app.wait()
    print_table(
        ['cells', 'click to checkpoint s', 'slowest answer before s', 'slowest answer meanwhile s', 'answers'],
        [[count, *(f'{value:.2f}' for value in (seconds, max(before), max(during))), len(during)]],
    )
    print(f'seconds {seconds:.1f}')


if __name__ == '__main__':
    main()
