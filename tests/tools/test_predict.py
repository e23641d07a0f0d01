"""tools/predict.py as a user runs it."""

import csv
import json

import cv2
import numpy as np
import pytest
import tifffile
from conftest import read_json
from tiny_detector import CLASSES

from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.inference.input_files import find_images, output_names
from cellseg_mm.utils import UserError


@pytest.fixture(scope='module')
def image() -> np.ndarray:
    return draw_tissue(np.random.default_rng(3), 72, 96)[0]


@pytest.fixture
def inputs(image, tmp_path):
    """A folder of one picture in several kinds of file, all with the same pixels."""
    folder = tmp_path / 'inputs'
    folder.mkdir()
    bgr = image[..., ::-1]
    cv2.imwrite(str(folder / 'plain.png'), bgr)
    cv2.imwrite(str(folder / 'alpha.png'), np.dstack([bgr, np.full(bgr.shape[:2], 255, np.uint8)]))
    cv2.imwrite(str(folder / 'wide.png'), bgr.astype(np.uint16) * 257)
    tifffile.imwrite(folder / 'tiled.tif', image, tile=(16, 32), resolution=(40000, 40000), resolutionunit='CENTIMETER')
    tifffile.imwrite(folder / 'pages.tif', np.stack([image, image[::-1]]), photometric='rgb')
    return folder


def table(path) -> list:
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def test_all_formats_of_all_kinds_of_file_hold_the_same_cells(tiny_checkpoint, inputs, run_here, tmp_path):
    out = tmp_path / 'out'
    status, printed, err = run_here('predict', tiny_checkpoint, inputs, '--out', out, '--channel-order', 'rgb')
    assert status == 0, err
    expected = table(out / 'plain.csv')
    assert len(expected) > 20 and {row['class'] for row in expected} <= set(CLASSES)
    for name in ('alpha', 'wide', 'pages', 'tiled'):
        rows = table(out / f'{name}.csv')
        assert [{key: row[key] for key in expected[0]} for row in rows] == expected
    assert 'area_um2' in table(out / 'tiled.csv')[0] and 'area_um2' not in expected[0]
    # its own readers of each format are in tests/export
    count = len(expected)
    assert len(read_json(out / 'plain.geojson')['features']) == count
    assert len(read_json(out / 'plain_coco.json')['annotations']) == count
    assert tifffile.imread(out / 'plain_labels.tif').max() == count
    overlay = cv2.imread(str(out / 'plain_overlay.png'))
    assert overlay.shape[0] > 72 and overlay.shape[1] % 96 == 0  # enlarged, with a legend below
    summary = read_json(out / 'summary.json')
    assert f'{5 * count:,} cells in 5 images' in printed
    assert str(inputs / 'plain.png') in json.dumps(summary)
    assert not (out / '.tiles').exists()
    told = (printed + err).splitlines()
    assert any('wide.png' in line and '16 bit' in line for line in told)
    assert any('pages.tif' in line and 'page' in line for line in told)


def test_a_bad_file_is_one_line_and_the_others_go_on(tiny_checkpoint, inputs, run_here, tmp_path):
    (inputs / 'notes.png').write_text('no image')
    (inputs / 'empty.tif').touch()
    arguments = ['--out', tmp_path / 'out', '--formats', 'csv', '--channel-order', 'rgb']
    status, printed, err = run_here('predict', tiny_checkpoint, inputs, inputs / 'absent.png', *arguments)
    assert status == 2 and 'cells in 5 images' in printed
    errors = [line.strip('\r') for line in err.replace('\r', '\n').splitlines() if line.strip().startswith('error')]
    assert len(errors) == 3 and 'Traceback' not in err
    for name in ('notes.png', 'empty.tif', 'absent.png'):
        assert sum(name in line for line in errors) == 1
    assert '3 of 8 files failed' in err


def test_equal_names_do_not_overwrite_each_other(tmp_path):
    paths = [tmp_path / name for name in ('a/x.png', 'b/x.png', 'b/x.tif', 'b/y.png', 'c/summary.png')]
    assert output_names(paths) == ['a_x', 'b_x_png', 'b_x_tif', 'y', 'c_summary']
    assert len({name.casefold() for name in output_names([tmp_path / 'X.png', tmp_path / 'x.png'])}) == 2


def test_inputs_are_files_folders_and_patterns(tmp_path):
    (tmp_path / 'deep').mkdir()
    for name in ('b.png', 'a.TIF', 'notes.txt', '.hidden.png', 'deep/c.png'):
        (tmp_path / name).touch()
    named = [path.name for path in find_images([str(tmp_path), str(tmp_path / '**/*.png'), str(tmp_path / 'b.png')])]
    assert named == ['a.TIF', 'b.png', 'c.png']
    (tmp_path / 'void').mkdir()
    for text, message in (('deep/*.jpg', 'no file matches'), ('void', 'no image in this folder')):
        with pytest.raises(UserError, match=message):
            find_images([str(tmp_path / text)])


def test_a_finished_file_is_kept_by_resume_unless_the_settings_changed(tiny_checkpoint, inputs, run_here, tmp_path):
    command = ['predict', tiny_checkpoint, inputs / 'plain.png', '--out', tmp_path / 'out', '--formats', 'csv']
    command += ['--tile', '--tile-size', '96', '--overlap', '32', '--channel-order', 'rgb']
    report = tmp_path / 'out/plain_summary.json'
    assert run_here(*command)[0] == 0
    first = report.read_bytes()
    assert run_here(*command, '--resume')[0] == 0
    assert report.read_bytes() == first  # it holds its seconds, so it was not made anew
    assert run_here(*command, '--resume', '--score-thr', '0.9')[0] == 0
    assert report.read_bytes() != first
    assert all(float(row['score']) >= 0.9 for row in table(tmp_path / 'out/plain.csv'))


@pytest.mark.parametrize(
    'arguments, message',
    [
        ('--formats overlay,svg', '--formats svg: choose from overlay,labels,coco,geojson,csv'),
        ('--pixel-size 0', '--pixel-size 0.0: must be above 0'),
        ('--score-thr 2', 'scores go from 0 to 1'),
        ('--no-tile --scale 2', '--scale is that of tiles'),
        ('--device tpu', 'device tpu: cannot be used'),
        ('--config none.py', 'none.py: no such config file'),
    ],
)
def test_mistakes_are_told_in_one_line(tiny_checkpoint, inputs, run_here, tmp_path, arguments, message):
    status, _, err = run_here('predict', tiny_checkpoint, inputs, '--out', tmp_path / 'out', *arguments.split())
    assert status == 2 and message in err and 'Traceback' not in err
    assert not (tmp_path / 'out').exists()


def test_the_folder_of_the_images_is_not_written_into(tiny_checkpoint, inputs, run_here):
    status, _, err = run_here('predict', tiny_checkpoint, inputs, '--out', inputs)
    assert status == 2 and 'is a folder of images to read' in err
