"""tools/submission.py from a checkpoint to a score. The model is not trained: what it finds is random, but repeats."""

import importlib.util
import json
import shutil
import sys

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, read_json
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from processes import run_script

from cellseg_mm.datasets import CLASSES
from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.engine import data_facts
from cellseg_mm.submission import check_submission, read_image_list
from cellseg_mm.utils import load_config

CONFIG = ROOT / 'configs/demo/maskrcnn_r18_fpn_cbam.py'
# few detections, but some; and no workers
QUICK = [
    '--cfg-options',
    'model.test_cfg.rcnn.score_thr=0.01',
    'model.test_cfg.rcnn.max_per_img=20',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
]
SIZES = {'first.tif': (64, 96), 'second.tif': (80, 64)}

spec = importlib.util.spec_from_file_location('submission_tool', ROOT / 'tools/submission.py')
submission = importlib.util.module_from_spec(spec)
spec.loader.exec_module(submission)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """bgr/ and rgb/ with the same two images in files of either order, ids.json, new.pth and old.pth, gt.json."""
    root = tmp_path_factory.mktemp('submission')
    images, annotations = [], []
    for number, (name, size) in enumerate(SIZES.items(), start=11):
        rgb, _, _ = draw_tissue(np.random.default_rng(number), *size)
        for order, given in (('bgr', rgb), ('rgb', rgb[..., ::-1])):  # OpenCV exchanges red and blue once more
            (root / order).mkdir(exist_ok=True)
            cv2.imwrite(str(root / order / name), np.dstack([given, np.full(size, 255, np.uint8)]))
        images.append(dict(file_name=name, id=number, height=size[0], width=size[1]))
        square = dict(bbox=[10, 10, 20, 20], area=400, segmentation=[[10, 10, 30, 10, 30, 30, 10, 30]])
        annotations.append(dict(id=number, image_id=number, category_id=1, iscrowd=0, **square))
    (root / 'ids.json').write_text(json.dumps(images))
    categories = [dict(id=number, name=name) for number, name in enumerate(CLASSES, start=1)]
    (root / 'gt.json').write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))

    init_default_scope('mmdet')
    torch.manual_seed(0)
    cfg = load_config(str(CONFIG))
    data_facts.set_data_facts(cfg, [200.0, 150.0, 180.0], [40.0, 50.0, 30.0], list(CLASSES))
    cfg.model.backbone.init_cfg = None
    state_dict = MODELS.build(cfg.model).state_dict()
    for name, order in (('old', {}), ('new', dict(channel_order='bgr'))):
        cfg.update(order)
        meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=CLASSES))
        torch.save(dict(state_dict=state_dict, meta=meta), root / f'{name}.pth')
    return root


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the tool in this process: exit status and what it printed."""

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['submission.py', *map(str, arguments)])
        try:
            submission.main()
            status = 0
        except SystemExit as error:
            status = error.code
        return status, capsys.readouterr()

    return call


@pytest.fixture(scope='module')
def made(root, tmp_path_factory):
    """A zip of the files with red and blue exchanged, of which the checkpoint knows."""
    return run_make(root, 'new', 'bgr', root / 'ids.json', tmp_path_factory.mktemp('made'))


def run_make(root, checkpoint, images, ids, folder, *options, config=(CONFIG,)):
    """In a process of its own, because mmengine keeps a run's visualizer and log for the next."""
    arguments = ['make', *config, root / f'{checkpoint}.pth', '--images', root / images, '--ids', ids]
    arguments += ['--out', folder / 'out/x.zip', *options, *QUICK]
    before = sorted(ROOT.glob('work_dirs/*'))
    result = run_script(ROOT / 'tools/submission.py', *arguments, folder=folder)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.endswith('x.zip: good\n')
    assert sorted(path.name for path in folder.rglob('*')) == ['out', 'x.zip']
    assert sorted(ROOT.glob('work_dirs/*')) == before
    return folder / 'out/x.zip'


def results_of(path, ids):
    report = check_submission(path, read_image_list(ids), num_classes=4)
    assert not report.problems
    return report.results


def test_make(made, root):
    results = results_of(made, root / 'ids.json')
    assert {entry['image_id']: tuple(entry['segmentation']['size']) for entry in results} == {
        11: (64, 96),
        12: (80, 64),
    }
    assert all(set(entry) == {'image_id', 'category_id', 'bbox', 'score', 'segmentation'} for entry in results)


def test_channel_order(made, root, tmp_path):
    """Files in true RGB, named as such, give the same, also without a config; a file of the other order does not."""
    images = read_json(root / 'ids.json')
    shutil.copy(root / 'bgr/first.tif', root / 'rgb/exchanged.tif')
    ids = root / 'more.json'
    ids.write_text(json.dumps([*images, dict(images[0], id=13, file_name='exchanged.tif')]))
    results = results_of(run_make(root, 'old', 'rgb', ids, tmp_path, '--channel-order', 'rgb', config=()), ids)
    expected = results_of(made, root / 'ids.json')
    assert [entry for entry in results if entry['image_id'] != 13] == expected
    exchanged = [dict(entry, image_id=11) for entry in results if entry['image_id'] == 13]
    assert exchanged and exchanged != [entry for entry in expected if entry['image_id'] == 11]


def test_mistakes_at_make(root, run, one_line_error, tmp_path):
    def error(checkpoint='new', images=root / 'bgr', ids=root / 'ids.json', out=tmp_path / 'x.zip'):
        status, printed = run(
            'make', CONFIG, root / f'{checkpoint}.pth', '--images', images, '--ids', ids, '--out', out
        )
        assert status == 2 and printed.err.count('error: ') == 1
        return printed.err

    assert 'old.pth: does not say its training files' in error('old')
    assert '2 of the 2 listed images are missing: first.tif, second.tif' in error(images=tmp_path)
    assert 'must end in .zip' in error(out=tmp_path / 'x.json')
    assert 'no such checkpoint' in error('none')
    images = read_json(root / 'ids.json')
    (tmp_path / 'ids.json').write_text(json.dumps([images[0], dict(images[1], height=81)]))
    assert 'second.tif: 64x80 px (width x height), but 64x81 in the list' in error(ids=tmp_path / 'ids.json')
    assert not (tmp_path / 'x.zip').exists()
    other = ROOT / 'configs/demo/maskrcnn_r18.py'
    arguments = ['--images', root / 'bgr', '--ids', root / 'ids.json', '--out', tmp_path / 'x.zip']
    assert 'is not of the model in' in one_line_error('submission', 'make', other, root / 'new.pth', *arguments)


def test_check(made, root, run, tmp_path):
    results = results_of(made, root / 'ids.json')
    status, printed = run('check', made, '--ids', root / 'ids.json')
    assert status == 0 and printed.out.endswith('x.zip: good\n')
    numbers = [line.split('|')[1:3] for line in printed.out.splitlines()[2:-1]]
    numbers = {name.strip(): int(number) for name, number in numbers}
    assert numbers['images'] == 2 and numbers['images without a detection'] == 0
    assert numbers['detections'] == len(results) == sum(numbers[f'class {number}'] for number in range(1, 5))
    assert numbers['most detections of an image'] == max(
        sum(entry['image_id'] == number for entry in results) for number in (11, 12)
    )

    images = read_json(root / 'ids.json')
    (tmp_path / 'ids.json').write_text(json.dumps([*images, dict(images[0], id=13, file_name='third.tif')]))
    status, printed = run('check', made, '--ids', tmp_path / 'ids.json')
    assert status == 1
    assert printed.out == 'image 13 (third.tif): no detection; if it may hold no cell, use --allow-empty\n'
    assert run('check', made, '--ids', tmp_path / 'ids.json', '--allow-empty')[0] == 0
    status, printed = run('check', tmp_path / 'none.zip', '--ids', root / 'ids.json')
    assert status == 2 and printed.err.endswith('none.zip: no such file\n')


def test_score(made, root, run, tmp_path):
    status, printed = run('score', made, root / 'gt.json')
    assert status == 0
    first, header, _, *rows = printed.out.splitlines()
    assert first.startswith('masks; an image has up to 20 detections of a class')
    assert [cell.strip() for cell in header.split('|')[2:-1]] == ['AP50', 'AP50 at 100', 'mAP', 'mAP at 100']
    assert [row.split('|')[1].strip() for row in rows] == ['all classes', *CLASSES]
    assert len(set(map(len, [header, *rows]))) == 1

    content = read_json(root / 'gt.json')
    old, content['images'][1]['id'] = content['images'][1]['id'], 99
    content['annotations'] = [
        cell | dict(image_id=99) if cell['image_id'] == old else cell for cell in content['annotations']
    ]
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    status, printed = run('score', made, tmp_path / 'gt.json')
    assert status == 2 and printed.err.count('\n') == 1
    assert 'image_id is not listed' in printed.err and 'tools/submission.py check' in printed.err
    for entry, key in ((content['categories'][0], 'id'), *((cell, 'category_id') for cell in content['annotations'])):
        entry[key] = 0
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    status, printed = run('score', made, tmp_path / 'gt.json')
    assert status == 2 and 'category ids must be 1 to 4' in printed.err
