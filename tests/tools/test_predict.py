"""From the command line to files, with a small detector of random weights."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from conftest import ROOT, read_csv, read_json
from processes import context
from pycocotools import mask as mask_utils
from tiny_detector import CLASSES, draw

from cellseg_mm import CellInferencer
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.export import FORMATS
from cellseg_mm.export.writer import Part, Writer
from cellseg_mm.images import open_image
from cellseg_mm.inference.ledger import Ledger
from cellseg_mm.structures import Cells
from cellseg_mm.utils import claimed
from cellseg_mm.visualization import draw_cells

SUFFIXES = (
    '_overlay.png',
    '_labels.tif',
    '_classes.tif',
    '_coco.json',
    '.geojson',
    '.csv',
    '_overview.png',
    '_summary.json',
)


def write(path: Path, image: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image, photometric='rgb', **options)
    return path


def masks_of(path: Path) -> tuple:
    """(H, W, N) masks and (N,) scores in a COCO file."""
    annotations = read_json(path)['annotations']
    scores = [entry['score'] for entry in annotations]
    return mask_utils.decode([entry['segmentation'] for entry in annotations]), scores


def names(folder: Path) -> set:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def predict(run_here, tiny_checkpoint, tmp_path):
    """Run the tool into tmp_path / 'out'."""
    return lambda *arguments: run_here('predict', tiny_checkpoint, '--out', tmp_path / 'out', *arguments)


def test_all_kinds_of_input_go_through_and_a_bad_file_is_one_line(predict, tiny_checkpoint, tmp_path):
    images, out = [draw(seed, 128, 128) for seed in range(3)], tmp_path / 'out'
    write(tmp_path / 'folder/a.tif', images[0], resolution=(40000, 40000), resolutionunit='CENTIMETER')
    (tmp_path / 'folder/text.png').write_text('no image')
    write(tmp_path / 'more/a.tif', images[1] * np.uint16(257), tile=(64, 64), compression='zlib')
    with tifffile.TiffWriter(tmp_path / 'more/pages.tif') as file:
        for page in (images[2][:64], images[2]):
            file.write(page, photometric='rgb')
    inputs = tmp_path / 'folder', tmp_path / 'absent.png', f'{tmp_path}/more/*.tif'
    status, printed, errors = predict(*inputs, '--channel-order', 'rgb')

    assert status == 2 and 'score threshold 0.25 (chosen by the validation of epoch 2)' in printed
    failures = [line for line in errors.splitlines() if line.startswith('error: ')]
    assert [re.search(r'(\w+)\.png: (.*)', line).groups() for line in failures] == [
        ('text', 'is not a PNG, JPEG, JPEG 2000, BMP, WebP, TIFF or SVS file'),
        ('absent', 'No such file or directory'),
    ]
    assert '2 of 5 files failed, see above' in errors and 'Traceback' not in errors
    assert re.search(r'pages\.tif: \d+ cells \(a \d+, b \d+, c \d+\); 128x128 px; page 2 of 2', printed)
    stems = ['folder_a', 'more_a', 'pages']
    expected = {f'{stem}{suffix}' for stem in stems for suffix in SUFFIXES}
    assert names(out) - {'.tiles'} == expected | {'summary.csv', 'summary.json'}

    detector, total = CellInferencer(tiny_checkpoint), 0
    for image, stem in zip(images, stems, strict=True):
        cells = detector(image)
        cells = cells.select(cells.areas() > 0)
        masks, scores = masks_of(out / f'{stem}_coco.json')
        assert np.array_equal(masks, mask_utils.decode(cells.codes()))
        assert scores == pytest.approx(cells.scores.tolist(), abs=1e-5)
        rows = read_csv(out / f'{stem}.csv')
        assert [row['class'] for row in rows] == [CLASSES[label] for label in cells.labels]
        assert len(read_json(out / f'{stem}.geojson')['features']) == len(cells)
        labels = tifffile.imread(out / f'{stem}_labels.tif')
        assert np.array_equal(labels > 0, masks.any(axis=2)) and labels.max() <= len(cells)
        picture = cv2.imread(str(out / f'{stem}_overlay.png'))[..., ::-1]
        height = 4 * 128  # without the legend, which has the file's name
        assert np.array_equal(picture[:height], draw_cells(image, cells, CLASSES)[:height])
        total += len(cells)
    summary = read_csv(out / 'summary.csv')
    assert [Path(row['file']).name for row in summary] == ['a.tif', 'a.tif', 'pages.tif', 'overall']
    assert int(summary[-1]['cells']) == sum(int(row['cells']) for row in summary[:-1]) == total
    assert float(summary[0]['mm2']) == pytest.approx((128 * 0.25e-3) ** 2) and summary[1]['mm2'] == ''
    assert 'area_um2' in read_csv(out / 'folder_a.csv')[0] and 'area_um2' not in read_csv(out / 'pages.csv')[0]


def test_options_choose_formats_threshold_and_pixel_size(predict, tmp_path):
    path, out = write(tmp_path / 'x.tif', draw(1, 128, 128)), tmp_path / 'out'
    assert predict(path, '--formats', 'csv', '--score-thr', '0.45', '--pixel-size', '0.5')[0] == 0
    assert names(out) == {'x.csv', 'x_summary.json', 'summary.csv', 'summary.json'}
    rows = read_csv(out / 'x.csv')
    assert rows and min(float(row['score']) for row in rows) >= 0.45
    assert all(float(row['area_um2']) == pytest.approx(float(row['area_px']) / 4, abs=1e-3) for row in rows)
    summary = read_json(out / 'summary.json')['overall']
    assert summary['cells'] == len(rows) and summary['mm2'] == pytest.approx((128 * 0.5e-3) ** 2)


def test_cells_of_another_pixel_size_come_out_in_the_images_own_px(run_here, tiny_checkpoint, tmp_path):
    content, checkpoint = read_checkpoint(str(tiny_checkpoint)), tmp_path / 'sized.pth'
    content['meta']['cfg'] += '\npixel_size = 0.5\n'
    torch.save(content, checkpoint)
    image = draw(1, 128, 128)
    fine = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    paths = [
        write(tmp_path / name, array, resolution=(1e4 / size,) * 2, resolutionunit='CENTIMETER')
        for name, array, size in (('own.tif', image, 0.5), ('fine.tif', fine, 0.25))
    ]
    paths.append(write(tmp_path / 'unknown.tif', image))
    options = '--formats', 'coco,csv', '--channel-order', 'rgb'
    status, printed, _ = run_here('predict', checkpoint, '--out', tmp_path / 'out', *paths, *options)
    assert status == 0 and '1 of 3 images do not say their pixel size and were taken as they are' in printed
    assert re.search(r"fine\.tif: .*; 256x256 px; 0\.25 um a px; shown to the model at the training's 0\.5 um", printed)
    rows = [read_csv(tmp_path / f'out/{name}.csv') for name in ('own', 'fine')]
    assert len(rows[0]) == len(rows[1]) > 3
    for own, other in zip(*rows, strict=True):
        assert own['class'] == other['class']
        for name in ('centroid_x_um', 'centroid_y_um', 'area_um2'):
            assert float(own[name]) == pytest.approx(float(other[name]), abs=1e-3)
        assert 2 * float(own['centroid_x_px']) == pytest.approx(float(other['centroid_x_px']), abs=1e-3)
    masks, _ = masks_of(tmp_path / 'out/fine_coco.json')
    assert np.array_equal(masks[::2, ::2], masks_of(tmp_path / 'out/own_coco.json')[0])
    status, printed, _ = run_here('predict', tiny_checkpoint, '--out', tmp_path / 'out', *paths, *options)
    assert printed.count('the pixel size of the training images is unknown, so images were taken as they are') == 1


def test_images_go_through_in_tiles_where_they_need_it_or_as_one_wishes(predict, tiny_checkpoint, tmp_path):
    path, out, notes = write(tmp_path / 'x.tif', draw(1, 64, 400)), tmp_path / 'out', []
    for options in ((), ('--no-tile',), ('--tile', '--tile-size', '100')):
        assert predict(path, '--formats', 'coco', '--channel-order', 'rgb', *options)[0] == 0
        notes.append(read_json(out / 'x_summary.json')['note'])
        assert not (out / '.tiles').exists()
    assert ['in tiles, at 2.00 times its size' in note for note in notes] == [True, False, True]
    detector = CellInferencer(tiny_checkpoint)
    parts = detector.stream(open_image(path), tmp_path / 'work', {}, True, tile_size=100, overlap=33)
    cells = Cells.concatenate(list(parts))
    assert np.array_equal(masks_of(out / 'x_coco.json')[0], mask_utils.decode(cells.codes()))


def test_files_with_red_and_blue_exchanged_are_put_right(predict, tmp_path):
    image, out = draw(1, 128, 128), tmp_path / 'out'
    right, swapped = write(tmp_path / 'right.tif', image), write(tmp_path / 'swapped.tif', image[..., ::-1])
    assert predict(right, '--formats', 'coco', '--channel-order', 'rgb')[0] == 0
    assert predict(swapped, '--formats', 'coco', '--channel-order', 'bgr')[0] == 0
    assert np.array_equal(*(masks_of(out / f'{name}_coco.json')[0] for name in ('right', 'swapped')))
    _, printed, _ = predict(right, '--formats', 'coco')  # the checkpoint is of such files, so these are looked at
    assert re.search(r'red and blue are .*nuclei are bluer .*; --channel-order rgb or bgr decides otherwise', printed)


def test_a_run_that_was_stopped_goes_on_where_it_was(predict, tmp_path, monkeypatch):
    done, left = write(tmp_path / 'done.tif', draw(1, 128, 128)), write(tmp_path / 'left.tif', draw(2, 64, 400))
    settings, calls, detect = ('--formats', 'csv', '--channel-order', 'rgb'), [], CellInferencer._detect
    assert predict(done, *settings)[0] == 0

    def stop_once(self, images: list, *arguments: object) -> list:
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return detect(self, images, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(CellInferencer, '_detect', stop_once)
        assert [predict(done, left, *settings, '--resume')[0] for _ in range(2)] == [130, 0]
    assert calls == [4, 1, 1]  # of five tiles four were there, and the other file was done
    rows = read_csv(tmp_path / 'out/left.csv')
    assert predict(left, *settings)[0] == 0 and read_csv(tmp_path / 'out/left.csv') == rows
    with monkeypatch.context() as patch:
        patch.setattr(CellInferencer, '_detect', None)
        assert predict(done, left, *settings, '--resume')[0] == 0
        assert predict(done, left, *settings, '--resume', '--score-thr', '0.3')[0] == 2  # other settings


def stop(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_rewrite_that_was_stopped_is_never_taken_for_the_run_before_it(predict, tmp_path, monkeypatch):
    path, out = write(tmp_path / 'x.tif', draw(1, 128, 128)), tmp_path / 'out'
    settings = path, '--formats', 'overlay,csv', '--channel-order', 'rgb'
    assert predict(*settings)[0] == 0
    rows = read_csv(out / 'x.csv')
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, 'record', stop)  # after the table
        assert predict(*settings, '--score-thr', '0.5')[0] == 130
    assert len(read_csv(out / 'x.csv')) < len(rows) and not (out / 'x_summary.json').exists()
    assert predict(*settings, '--resume')[0] == 0 and read_csv(out / 'x.csv') == rows


class CountWriter(Writer):
    """A format of someone else's."""

    endings = ('_count.txt',)
    measured = False

    def __init__(self, folder: Path, stem: str, source: object, classes: tuple) -> None:
        self.path, self.count = folder / f'{stem}_count.txt', 0

    def write(self, part: Part) -> None:
        self.count += len(part)

    def __enter__(self) -> 'CountWriter':
        return self

    def __exit__(self, *error: object) -> None:
        self.path.write_text(str(self.count))


def test_a_new_format_is_one_entry_and_its_files_are_kept_by_resume(predict, tmp_path, monkeypatch):
    path, out = write(tmp_path / 'x.tif', draw(1, 128, 128)), tmp_path / 'out'
    settings = path, '--channel-order', 'rgb', '--formats', 'count,csv'
    monkeypatch.setitem(FORMATS, 'count', CountWriter)
    assert predict(*settings)[0] == 0 and int((out / 'x_count.txt').read_text()) == len(read_csv(out / 'x.csv'))
    monkeypatch.setattr(CellInferencer, '_detect', None)
    assert predict(*settings, '--resume')[0] == 0


@pytest.mark.parametrize('lost', ['x.csv', 'x_classes.tif'])
def test_a_file_of_which_an_output_is_gone_is_not_finished(predict, tmp_path, lost):
    path, out = write(tmp_path / 'x.tif', draw(1, 128, 128)), tmp_path / 'out'
    settings = path, '--formats', 'labels,csv', '--channel-order', 'rgb'
    assert predict(*settings)[0] == 0
    content = (out / lost).read_bytes()
    (out / lost).unlink()
    assert predict(*settings, '--resume')[0] == 0 and (out / lost).read_bytes() == content


def test_formats_of_an_earlier_run_stay_only_where_the_cells_are_the_same(predict, tmp_path, monkeypatch):
    path, out = write(tmp_path / 'x.tif', draw(1, 128, 128)), tmp_path / 'out'
    settings, summaries = (
        (path, '--channel-order', 'rgb', '--formats'),
        {'x_summary.json', 'summary.csv', 'summary.json'},
    )
    out.mkdir()
    (out / 'x.geojson').write_text("the user's own")
    for formats in ('overlay,labels', 'csv'):
        assert predict(*settings, formats)[0] == 0
    of_ours = {'x_overlay.png', 'x_labels.tif', 'x_classes.tif', 'x.csv'}
    assert names(out) == of_ours | {'x.geojson'} | summaries
    with monkeypatch.context() as patch:
        patch.setattr(CellInferencer, '_detect', None)
        assert predict(*settings, 'labels,csv', '--resume')[0] == 0  # of two runs, and both are finished
    assert predict(*settings, 'csv', '--score-thr', '0.5')[0] == 0
    assert names(out) == {'x.csv', 'x.geojson'} | summaries


def test_a_name_that_is_no_utf_8_goes_through(predict, tmp_path):
    path = write(tmp_path / 'in/x.tif', draw(1, 128, 128))
    os.rename(path, os.fsencode(path.with_name('Zelle_')) + b'\xe9.tif')
    status, printed, errors = predict(path.parent, '--channel-order', 'rgb')
    assert status == 0 and r'Zelle_\udce9.tif: ' in printed and 'error' not in errors
    stem = os.fsdecode(b'Zelle_\xe9')
    assert names(tmp_path / 'out') == {f'{stem}{suffix}' for suffix in SUFFIXES} | {'summary.csv', 'summary.json'}
    assert Path(read_csv(tmp_path / 'out/summary.csv')[0]['file']).name == r'Zelle_\udce9.tif'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('x.tif --formats png', "unknown format 'png': choose from overlay, labels, coco, geojson, csv"),
        ('x.tif --pixel-size 0', 'invalid pixel size 0: it must be from 0.02 to 20 um'),
        ('x.tif --score-thr 2', '--score-thr 2: scores go from 0 to 1'),
        ('x.tif --tile-size 50', 'the overlap must be 32 px to a third of the tile'),
        ('x.tif --scale 2 --no-tile', '--scale is for tiles; leave out --no-tile'),
        ('x.tif --overlap 64 --no-tile', '--overlap is for tiles; leave out --no-tile'),
        ('x.tif --no-tile --tile-size 256', '--tile-size is for tiles; leave out --no-tile'),
        ('*.svs', r'\*.svs: no file matches'),
        ('empty', 'empty: no image in this folder'),
        ('*.tif --out .', r'--out \.: holds input images; choose another'),
        ('x.tif --launcher pytorch', 'start the command by torchrun'),
    ],
)
def test_mistakes_give_one_line_before_anything_is_written(predict, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for folder in ('empty', 'out'):
        (tmp_path / folder).mkdir()
    write(tmp_path / 'x.tif', draw(1, 64, 64))
    status, _, errors = predict(*arguments.split())
    assert status == 2 and re.fullmatch(f'error: .*{message}.*\n', errors) and not names(tmp_path / 'out')


def claim(path, ends):
    with claimed(path, 'taken'):
        ends.send(True)
        ends.recv()


def test_a_second_process_with_the_same_out_is_refused(predict, tmp_path):
    """At its end the first one would remove the second one's tiles, and leave a summary without its images."""
    write(tmp_path / 'x.tif', draw(1, 64, 64))
    ours, theirs = context.Pipe()
    other = context.Process(target=claim, args=(tmp_path / 'out/.predict.lock', theirs))
    other.start()
    assert ours.recv()
    for name in ('.tiles/large', '.large.abcd_123.partial'):
        (tmp_path / 'out' / name).mkdir(parents=True)
    status, _, errors = predict(tmp_path / 'x.tif', '--formats', 'csv')
    assert status == 2 and 'out: another process writes there; wait for it, or choose another --out' in errors
    assert names(tmp_path / 'out') == {'.predict.lock', '.tiles', '.large.abcd_123.partial'}
    ours.send('done')
    other.join()
    status, _, errors = predict(tmp_path / 'x.tif', '--formats', 'csv')
    assert status == 0, errors
    assert names(tmp_path / 'out') == {'x.csv', 'x_summary.json', 'summary.csv', 'summary.json'}


def test_when_every_file_fails_there_is_no_summary(predict, tmp_path):
    (tmp_path / 'x.png').write_text('no image')
    status, _, errors = predict(tmp_path / 'x.png')
    assert status == 2 and '1 of 1 files failed' in errors and not list(tmp_path.glob('out/*'))


@pytest.mark.slow
def test_several_processes_share_files_and_tiles(tiny_checkpoint, tmp_path):
    for seed in range(3):
        write(tmp_path / f'images/{seed}.tif', draw(seed, 128, 128))
    write(tmp_path / 'images/large.tif', draw(7, 300, 300))
    (tmp_path / 'images/bad.png').write_text('no image')
    tool = [
        str(ROOT / 'tools/predict.py'),
        str(tiny_checkpoint),
        'images',
        '--formats',
        'coco,csv',
        '--channel-order',
        'rgb',
        '--out',
    ]
    environment = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    for command in ([sys.executable, *tool, 'one'], [*torchrun, *tool, 'two', '--launcher', 'pytorch']):
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert result.returncode != 0 and result.stderr.count('error: images/bad.png') == 1, result.stderr
    assert names(tmp_path / 'one') == names(tmp_path / 'two')
    for name in ('0', '1', '2', 'large'):
        assert read_csv(tmp_path / f'one/{name}.csv') == read_csv(tmp_path / f'two/{name}.csv')
    assert read_json(tmp_path / 'one/summary.json') == read_json(tmp_path / 'two/summary.json')
