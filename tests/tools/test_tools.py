"""The tools as a user runs them, from a directory that is not the project's."""

import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, read_json, write_tiny_config
from mmengine.runner import Runner
from processes import run_script

from cellseg_mm.datasets import prepare
from cellseg_mm.datasets.synthetic import draw_tissue, write_sample
from cellseg_mm.evaluation import evaluate, read_results
from cellseg_mm.utils import parse_config_text

DEMO = ROOT / 'configs/demo/maskrcnn_r18_fpn_cbam.py'


@pytest.fixture(scope='module')
def two_images(tmp_path_factory):
    """A prepared set that validates and tests on its two training images."""
    root = tmp_path_factory.mktemp('two')
    for index in range(3):
        image, instance_map, labels = draw_tissue(np.random.default_rng([9, index]), 96, 96)
        write_sample(root / 'source' / 'train' / f'image_{index}', image, instance_map, labels)
    prepare(root / 'source', root / 'cells', workers=1)
    for split in ('val', 'test'):
        shutil.copy(root / 'cells/annotations/train.json', root / f'cells/annotations/{split}.json')
    return root / 'cells'


@pytest.fixture(scope='module')
def overfitted(two_images, tmp_path_factory):
    """Config and work dir of a training run on two images."""
    root = tmp_path_factory.mktemp('overfitted')
    config = write_tiny_config(root / 'tiny.py', times=120, width=64)
    arguments = [config, '--from-scratch', '--work-dir', root / 'run']
    arguments += ['--cfg-options', f'data_root={two_images}', 'optim_wrapper.optimizer.lr=1e-3']
    result = run_script(ROOT / 'tools/train.py', *arguments, folder=root)
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'training on the CPU in float32' in result.stdout or torch.cuda.is_available()
    assert 'anchors: best IoU below 0.3 for' in result.stdout + result.stderr
    return config, root / 'run'


def run_test(overfitted, two_images, folder, *arguments, ranks=1):
    """The metrics that tools/test.py writes; folder/predictions.json has the predictions."""
    config, work_dir = overfitted
    words = [config, work_dir / 'epoch_1.pth', '--work-dir', folder, '--out', folder / 'predictions.json', *arguments]
    words += ['--cfg-options', f'data_root={two_images}', 'tta_model.turns=[0]', 'tta_model.flips=[False]']
    result = run_script(ROOT / 'tools/test.py', *words, folder=folder, ranks=ranks)
    assert result.returncode == 0, result.stderr[-3000:]
    return read_json(folder / 'test_metrics.json')


@pytest.fixture(scope='module')
def tested(overfitted, two_images, tmp_path_factory):
    """Metrics of the trained model, and the folder with its predictions and pictures."""
    folder = tmp_path_factory.mktemp('tested')
    return run_test(overfitted, two_images, folder, '--show-dir', folder / 'shown'), folder


def test_overfits_two_images(overfitted, tested, two_images):
    _, work_dir = overfitted
    metrics, folder = tested
    assert metrics['cells/segm_AP50_max1000'] > 0.9
    images = read_json(two_images / 'annotations/test.json')['images']
    for image in images:
        assert cv2.imread(str(folder / 'shown' / image['file_name'])) is not None
    predictions = read_results(folder / 'predictions.json')
    assert {entry['image_id'] for entry in predictions} == {image['id'] for image in images}
    # the dump scores as the test did, at the threshold that validation chose
    score_thr = torch.load(work_dir / 'epoch_1.pth', weights_only=False)['meta']['operating_point']['score_thr']
    expected = evaluate(read_json(two_images / 'annotations/test.json'), predictions, score_thr)
    assert metrics == pytest.approx({f'cells/{name}': value for name, value in expected.items()})


def test_a_checkpoint_alone_gives_the_same_metrics(overfitted, tested, two_images, run_here, tmp_path):
    """The model and the test pipeline come from it; the metrics go beside it."""
    checkpoint = shutil.copy(overfitted[1] / 'epoch_1.pth', tmp_path)
    status, _, errors = run_here('test', checkpoint, '--cfg-options', f'data_root={two_images}')
    assert status == 0, errors
    assert read_json(tmp_path / 'test_metrics.json') == tested[0]


def test_one_view_changes_no_metric_of_masks(overfitted, tested, two_images, tmp_path):
    metrics = run_test(overfitted, two_images, tmp_path, '--tta')
    assert {name: value for name, value in metrics.items() if '/bbox_' not in name} == pytest.approx(
        {name: value for name, value in tested[0].items() if '/bbox_' not in name}
    )


def test_three_processes_test_as_one(overfitted, tested, two_images, tmp_path):
    """On two images, so that one is tested twice and must count once."""
    metrics = run_test(overfitted, two_images, tmp_path, '--launcher', 'pytorch', ranks=3)
    assert metrics == pytest.approx(tested[0], abs=1e-6, nan_ok=True)
    assert read_json(tmp_path / 'predictions.json') == read_json(tested[1] / 'predictions.json')


def test_statistics_are_in_the_dump_and_the_checkpoint(overfitted, two_images):
    config, work_dir = overfitted
    statistics = read_json(two_images / 'statistics.json')
    checkpoint = torch.load(work_dir / 'epoch_1.pth', weights_only=False)
    for text in ((work_dir / config.name).read_text(), checkpoint['meta']['cfg']):
        preprocessor = parse_config_text(text)['model']['data_preprocessor']
        assert preprocessor['mean'] == statistics['mean'] and preprocessor['std'] == statistics['std']
    assert list(checkpoint['meta']['dataset_meta']['classes']) == statistics['classes']


def test_test_normalises_as_training_did(overfitted, tested, two_images, run_here, tmp_path):
    """Statistics of the tested data must not matter."""
    config, work_dir = overfitted
    shutil.copytree(two_images, tmp_path / 'cells')
    statistics = read_json(two_images / 'statistics.json')
    (tmp_path / 'cells/statistics.json').write_text(json.dumps(dict(statistics, mean=[0, 0, 0], std=[1, 1, 1])))
    arguments = [config, work_dir / 'epoch_1.pth', '--work-dir', tmp_path]
    status, _, errors = run_here('test', *arguments, '--cfg-options', f'data_root={tmp_path / "cells"}')
    assert status == 0, errors
    assert read_json(tmp_path / 'test_metrics.json') == tested[0]


def test_curves(overfitted, run_tool, tmp_path):
    result = run_tool('plot_curves', overfitted[1], '--out', tmp_path / 'curves.png')
    assert result.returncode == 0, result.stderr
    assert cv2.imread(str(tmp_path / 'curves.png')).std() > 10


def test_mistakes_at_test(overfitted, two_images, one_line_error, tmp_path):
    config, work_dir = overfitted
    checkpoint, data = work_dir / 'epoch_1.pth', ['--cfg-options', f'data_root={two_images}']
    other = ROOT / 'configs/demo/maskrcnn_r18_fpn.py'
    assert 'no such checkpoint' in one_line_error('test', config, tmp_path / 'x.pth', *data)
    assert 'is not of the model in' in one_line_error('test', ROOT / 'configs/demo/maskrcnn_r18.py', checkpoint, *data)
    assert 'no such config' in one_line_error('test', tmp_path / 'x.py', checkpoint, *data)
    assert '.json' in one_line_error('test', other, checkpoint, '--out', 'x.pkl', *data)
    assert 'is a config, but a checkpoint is needed' in one_line_error('test', checkpoint, config, *data)
    assert 'is a file; name a folder' in one_line_error('test', config, checkpoint, '--show-dir', config, *data)
    assert '0 to 1' in one_line_error('test', config, checkpoint, '--score-thr', '2', *data)
    shutil.copytree(two_images, tmp_path / 'cells')
    path = tmp_path / 'cells/annotations/test.json'
    path.write_text(json.dumps(dict(read_json(path), annotations=[])))
    options = ['--cfg-options', f'data_root={tmp_path / "cells"}']
    assert 'no labels to score' in one_line_error('test', config, checkpoint, *options)


def test_mistakes_at_training(one_line_error, two_images, tmp_path):
    options = ['--cfg-options', f'data_root={two_images}']
    missing = one_line_error('train', DEMO, '--cfg-options', f'data_root={tmp_path}')
    assert 'tools/prepare_data.py SOURCE --out' in missing
    assert 'no such config' in one_line_error('train', tmp_path / 'x.py')
    assert f'--cfg-options {DEMO}: not key=value' in one_line_error('train', *options, DEMO)
    assert 'backbone weights' in one_line_error('train', DEMO, '--backbone-weights', tmp_path / 'x', *options)
    assert 'no such checkpoint' in one_line_error('train', DEMO, '--load-from', tmp_path / 'x', *options)
    assert 'no shipped model has this name' in one_line_error('train', DEMO, '--load-from', 'lite', *options)
    assert 'no such checkpoint' in one_line_error('train', DEMO, '--resume', tmp_path / 'x', *options)
    torch.save(dict(state_dict={'encoder.weight': torch.zeros(3)}), tmp_path / 'other.pth')
    other = ['--load-from', tmp_path / 'other.pth', '--work-dir', tmp_path / 'work']
    assert 'none of its 1 weights has the name' in one_line_error('train', DEMO, *other, *options)


@pytest.fixture
def config_of_run(two_images, tmp_path, run_here, monkeypatch):
    """The config that tools/train.py would run, in a work dir where ``epochs`` were trained."""

    def run(*arguments, options=(), epochs=0):
        work_dir, configs = tmp_path / f'work_{epochs}', []
        work_dir.mkdir(exist_ok=True)
        for epoch in range(1, epochs + 1):
            torch.save(dict(state_dict={}, optimizer={}), work_dir / f'epoch_{epoch}.pth')
        monkeypatch.setattr(Runner, 'from_cfg', lambda cfg: sys.exit(configs.append(cfg)))
        words = ['--work-dir', work_dir, '--cfg-options', f'data_root={two_images}', *options]
        status, _, err = run_here('train', DEMO, *arguments, *words)
        assert not status, err
        return configs[0], work_dir

    return run


def test_only_a_checkpoint_that_is_found_takes_the_place_of_load_from(config_of_run, tmp_path):
    weights = tmp_path / 'x.pth'
    torch.save(dict(state_dict={}, optimizer={}), weights)
    by_config = dict(options=[f'load_from={weights}'])
    for arguments, more in ((['--load-from', weights], {}), ([], by_config)):
        cfg, _ = config_of_run(*arguments, '--resume', **more)
        assert (cfg.load_from, cfg.resume) == (str(weights), False)
        cfg, work_dir = config_of_run(*arguments, '--resume', **more, epochs=2)
        assert (cfg.load_from, cfg.resume) == (str(work_dir / 'epoch_2.pth'), True)


def test_resume_as_an_option_of_the_config(config_of_run, tmp_path):
    cfg, _ = config_of_run(options=['resume=True'])
    assert (cfg.load_from, cfg.resume) == (None, False)
    cfg, work_dir = config_of_run(options=['resume=True'], epochs=2)
    assert (cfg.load_from, cfg.resume) == (str(work_dir / 'epoch_2.pth'), True)
    torch.save(dict(state_dict={}, optimizer={}), tmp_path / 'x.pth')
    cfg, _ = config_of_run(options=['resume=True', f'load_from={tmp_path / "x.pth"}'], epochs=2)
    assert (cfg.load_from, cfg.resume) == (str(tmp_path / 'x.pth'), True)


def test_resume_and_fine_tuning(overfitted, two_images, run_tool, tmp_path):
    _, work_dir = overfitted
    shutil.copytree(work_dir, tmp_path / 'run')
    short = write_tiny_config(tmp_path / 'tiny.py', times=2, width=64)
    options = ['--cfg-options', f'data_root={two_images}']
    result = run_tool(
        'train', short, '--from-scratch', '--resume', '--work-dir', tmp_path / 'run', *options, 'train_cfg.max_epochs=2'
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / 'run' / 'epoch_2.pth').exists()
    result = run_tool(
        'train', short, '--load-from', work_dir / 'epoch_1.pth', '--work-dir', tmp_path / 'tuned', *options
    )
    assert result.returncode == 0, result.stderr[-3000:]
    metrics = json.loads((next((tmp_path / 'tuned').glob('*/vis_data/scalars.json'))).read_text().splitlines()[-1])
    assert metrics['cells/segm_AP50_max1000'] > 0.8  # it did not start from nothing


def test_diff_configs(run_tool, run_here, one_line_error):
    rows = [ROOT / 'configs' / f'maskrcnn_r50{row}.py' for row in ('', '_fpn', '_fpn_cbam')]
    result = run_tool('diff_configs', rows[1], rows[2])
    assert result.returncode == 1
    assert [line.split(':')[0] for line in result.stdout.splitlines()] == [
        f'model.backbone.{key}' for key in ('attention.reduction', 'attention.type', 'placement', 'type')
    ]
    assert "model.backbone.type: 'ResNet' -> 'CBAMResNet'" in result.stdout
    assert run_here('diff_configs', rows[0], rows[0])[:2] == (0, '')
    assert 'no such config' in one_line_error('diff_configs', rows[0], 'x.py')
    result = run_tool('diff_configs', rows[0], 'x.py')  # a mistake in a process of its own
    assert result.returncode == 2 and result.stderr.startswith('error: x.py: no such config')


def test_data_tools(run_tool, one_line_error, tmp_path):
    result = run_tool('make_sample_data', tmp_path / 'sample', '--images', 8, '--size', 64)
    assert result.returncode == 0, result.stderr
    result = run_tool('prepare_data', tmp_path / 'sample', '--out', tmp_path / 'cells', '--workers', 2)
    assert result.returncode == 0, result.stderr
    statistics = read_json(tmp_path / 'cells/statistics.json')
    total = sum(sum(counts.values()) for counts in statistics['instances'].values())
    assert f'cells in all: {total:,}' in result.stdout and 'channel order of the files: bgr' in result.stdout
    assert 'image/s' in result.stderr  # progress
    assert 'no such folder' in one_line_error('prepare_data', tmp_path / 'nothing', '--out', tmp_path / 'x')
    assert 'at least 8 images' in one_line_error('make_sample_data', tmp_path / 'y', '--images', 2)


def test_browse_augmentation(prepared, run_tool, run_here, one_line_error, tmp_path):
    result = run_tool('browse_augmentation', DEMO, '--out', tmp_path, '--data-root', prepared, '--images', 2)
    assert result.returncode == 0, result.stderr
    assert cv2.imread(str(tmp_path / 'augmentation.png')).std() > 10
    repeated = ROOT / 'configs/consep/maskrcnn_r50.py'
    arguments = ['--out', tmp_path / 'x', '--data-root', prepared, '--images', 2]
    status, _, errors = run_here('browse_augmentation', repeated, *arguments)
    assert status == 0, errors
    assert cv2.imread(str(tmp_path / 'x/augmentation.png')).std() > 10
    assert 'no prepared data' in one_line_error('browse_augmentation', DEMO, '--out', tmp_path, '--data-root', 'x')


def test_two_processes_under_torchrun(two_images, tmp_path):
    """With one image to validate on, so that one of them has none to compute a loss of."""
    config = write_tiny_config(tmp_path / 'tiny.py', times=4, width=16)
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    command = [*torchrun, ROOT / 'tools/train.py', config, '--from-scratch', '--launcher', 'pytorch']
    command += ['--work-dir', tmp_path / 'run', '--cfg-options', f'data_root={two_images}']
    command += ['val_dataloader.dataset.indices=1']
    result = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / 'run' / 'epoch_1.pth').exists()


@pytest.mark.slow
@pytest.mark.parametrize('row', ['maskrcnn_r50', 'maskrcnn_r50_fpn', 'maskrcnn_r50_fpn_cbam'])
def test_full_size_rows_train_and_test(row, prepared, run_tool, tmp_path):
    config = ROOT / f'configs/{row}.py'
    options = ['--cfg-options', f'data_root={prepared}', 'train_cfg.max_epochs=1']
    options += [f'{split}_dataloader.dataset.indices=2' for split in ('train', 'val', 'test')]
    options += ['model.test_cfg.rcnn.score_thr=0.0']  # an hour too early for scores of 0.5
    result = run_tool('train', config, '--from-scratch', '--work-dir', tmp_path / 'run', *options)
    assert result.returncode == 0, result.stderr[-3000:]
    result = run_tool('test', config, tmp_path / 'run/epoch_1.pth', '--work-dir', tmp_path, *options)
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'cells/segm_AP50_max1000' in read_json(tmp_path / 'test_metrics.json')
