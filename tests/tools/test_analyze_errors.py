import json
import runpy
import shutil
import sys

import cv2
import pytest
from conftest import ROOT, read_json

WRITTEN = ['confusion_matrix.png', 'errors.json', 'errors.md', 'precision_recall.png', 'worst']


@pytest.fixture
def results(prepared, tmp_path):
    """The ground truth of the test split as results, every fifth cell left out and every seventh of the next class."""
    content = read_json(prepared / 'annotations/test.json')
    entries = [
        dict(
            image_id=entry['image_id'],
            category_id=entry['category_id'] % 4 + 1 if index % 7 == 0 else entry['category_id'],
            bbox=entry['bbox'],
            score=0.3 if index % 3 == 0 else 0.9,
            segmentation=entry['segmentation'],
        )
        for index, entry in enumerate(content['annotations'])
        if index % 5
    ]
    path = tmp_path / 'results.json'
    path.write_text(json.dumps(entries))
    (tmp_path / 'test_metrics.json').write_text(json.dumps({'cells/score_thr': 0.5}))
    return path


def test_as_a_user(prepared, results, run_tool, tmp_path):
    annotations, out = prepared / 'annotations/test.json', tmp_path / 'out'
    result = run_tool('analyze_errors', results, annotations, '--out', out, '--worst', 2, '--score-thr', 0.25)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in out.iterdir()) == WRITTEN
    report = read_json(out / 'errors.json')
    cells = read_json(annotations)['annotations']
    left_out = len(cells[::5])
    assert report['total']['ground_truth'] == len(cells) and report['total']['missed'] == left_out
    assert report['total']['wrong_class'] == sum(index % 7 == 0 and index % 5 > 0 for index in range(len(cells)))
    assert (out / 'errors.md').read_text() in result.stdout
    assert 'image/s' in result.stderr  # progress
    pictures = sorted((out / 'worst').iterdir())
    assert len(pictures) == 2 and '2 pictures in worst/' in result.stdout
    assert all(cv2.imread(str(path)).std() > 10 for path in pictures)


@pytest.fixture
def run_here(monkeypatch):
    """Run the tool in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['analyze_errors.py', *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools/analyze_errors.py'), run_name='__main__')

    return run


@pytest.fixture
def error_line(run_here, capsys):
    """Run the tool on a user's mistake; return its one line."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            run_here(*arguments)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
        assert stopped.value.code == 2 and len(lines) == 1
        return lines[0]

    return run


def test_mistakes(prepared, results, error_line, tmp_path):
    annotations = prepared / 'annotations/test.json'
    out = ['--out', tmp_path / 'out']
    assert 'tools/prepare_data.py' in error_line(results, tmp_path / 'x.json', *out)
    assert 'tools/test.py' in error_line(tmp_path / 'x.json', annotations, *out)
    assert 'scores go from 0 to 1' in error_line(results, annotations, *out, '--score-thr', 50)
    assert 'must be 0 or more' in error_line(results, annotations, *out, '--worst', -1)
    assert 'no such folder' in error_line(results, annotations, *out, '--images', tmp_path / 'x')
    assert 'name a folder' in error_line(results, annotations, '--out', results)
    other_split = prepared / 'annotations/train.json'
    line = error_line(results, other_split, *out)
    assert 'result 0: ' in line and f'are these results for {other_split}?' in line
    entries = read_json(results)
    entries[3]['segmentation']['counts'] = entries[3]['segmentation']['counts'][:-1]
    results.write_text(json.dumps(entries))
    assert 'results.json: image' in error_line(results, annotations, *out)
    assert not (tmp_path / 'out').exists()


def test_the_threshold_is_that_of_the_test(prepared, results, run_here, error_line, tmp_path):
    annotations, out = prepared / 'annotations/test.json', tmp_path / 'out'
    for score_thr in (0.9, 0.25):
        (tmp_path / 'test_metrics.json').write_text(json.dumps({'cells/score_thr': score_thr}))
        run_here(results, annotations, '--out', out)
        assert read_json(out / 'errors.json')['score_thr'] == score_thr
    for content in ('{}', '[]', '{"cells/score_thr": null}', ''):
        (tmp_path / 'test_metrics.json').write_text(content)
        line = error_line(results, annotations, '--out', out)
        assert 'test_metrics.json: no score threshold of the test in it; give --score-thr' in line


def test_older_pictures_go_and_missing_images_are_named(prepared, results, run_here, capsys, tmp_path):
    annotations, out = tmp_path / 'test.json', tmp_path / 'out'
    shutil.copy(prepared / 'annotations/test.json', annotations)
    run_here(results, annotations, '--out', out, '--images', prepared / 'images', '--worst', 1)
    assert len(list((out / 'worst').iterdir())) == 1
    missed = read_json(out / 'errors.json')['total']['missed']
    capsys.readouterr()
    run_here(results, annotations, '--out', out, '--score-thr', 0.2)
    assert read_json(out / 'errors.json')['total']['missed'] < missed
    printed = capsys.readouterr().out
    assert f'warning: 3 images not found, first {tmp_path.parent / "images"}' in printed
    assert '0 pictures in worst/' in printed and not list((out / 'worst').iterdir())


def test_images_that_share_a_name_each_have_a_picture(prepared, results, run_here, tmp_path):
    """Of two folders, or of two formats; the worst is first, and what a user keeps there stays."""
    data, out = tmp_path / 'data', tmp_path / 'out'
    content = read_json(prepared / 'annotations/test.json')
    names = ['x/a.png', 'y/a.png', 'y/a.tif']
    for image, name in zip(content['images'], names, strict=True):
        (data / 'images' / name).parent.mkdir(parents=True, exist_ok=True)
        stored = cv2.imread(str(prepared / 'images' / image['file_name']))
        cv2.imwrite(str(data / 'images' / name), stored)
        image['file_name'] = name
    (data / 'annotations').mkdir()
    (data / 'annotations/test.json').write_text(json.dumps(content))
    (out / 'worst').mkdir(parents=True)
    (out / 'worst/notes.png').touch()
    for count in (3, 2):
        run_here(results, data / 'annotations/test.json', '--out', out, '--worst', count)
        expected = [f'000{place + 1}_a.png' for place in range(count)]
        assert sorted(path.name for path in (out / 'worst').iterdir()) == [*expected, 'notes.png']


def test_images_of_another_size(prepared, results, error_line, tmp_path):
    annotations = prepared / 'annotations/test.json'
    for image in read_json(annotations)['images']:
        stored = cv2.imread(str(prepared / 'images' / image['file_name']))
        cv2.imwrite(str(tmp_path / image['file_name']), stored[:20, :10])
    line = error_line(results, annotations, '--out', tmp_path / 'out', '--images', tmp_path)
    assert f'{tmp_path}/' in line and '10x20 px (width x height), but ' in line and '--images names' in line
    assert not (tmp_path / 'out').exists()


def test_no_prediction_at_all(prepared, results, run_here, tmp_path):
    """Pictures are enlarged, the odd test image of 33 x 86 px too."""
    results.write_text('[]')
    run_here(results, prepared / 'annotations/test.json', '--out', tmp_path / 'out')
    assert read_json(tmp_path / 'out/errors.json')['total']['recall'] == 0
    images = {image['file_name']: image for image in read_json(prepared / 'annotations/test.json')['images']}
    for path in (tmp_path / 'out/worst').iterdir():
        image = images[path.name.split('_', 1)[1]]
        height, width = image['height'], image['width']
        assert cv2.imread(str(path)).shape[1] == 2 * (width * (1024 // max(height, width)) + 8)
