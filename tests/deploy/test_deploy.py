"""A model out of the project: what is written is what the checkpoint holds, and runs without us."""

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from conftest import ROOT, read_json, write_tiny_config
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from pycocotools import mask as mask_utils
from tiny_detector import CLASSES, INPUT_SCALE, MEAN, POINT, STD, draw, predict, random_detector, tiny_config
from torch import nn

from cellseg_mm import CellInferencer, deploy
from cellseg_mm.deploy import onnx_file
from cellseg_mm.engine import data_facts
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.utils import UserError, parse_config_text

ROWS = ['maskrcnn_r18', 'maskrcnn_r18_fpn_cbam']
NOTES, RUNNER = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/deploy.md').read_text('utf-8'), re.DOTALL)


SHIPPED_HEADS = dict(
    bbox_head=dict(type='OneClassBBoxHead', reg_class_agnostic=True), mask_head=dict(class_agnostic=True)
)


@pytest.fixture(scope='module', params=[*ROWS, 'heads of the shipped models'])
def row(request) -> tuple:
    """A row of the ablation, or one with other heads: config, detector, and the ONNX file's content."""
    if request.param in ROWS:
        cfg = tiny_config(request.param, rcnn=dict(score_thr=0.1))
    else:
        cfg = tiny_config(ROWS[1], rcnn=dict(score_thr=0.3, nms=dict(class_agnostic=True)))
        cfg.merge_from_dict(dict(model=dict(roi_head=SHIPPED_HEADS)))
    deploy.check_traceable(cfg, 'x.pth')
    detector = random_detector(cfg)
    checkpoint = dict(meta=dict(dataset_meta=dict(classes=CLASSES), operating_point=POINT))
    return cfg, detector, deploy.to_onnx(detector, deploy.metadata(cfg, checkpoint))


def run(content: bytes, image: np.ndarray) -> list:
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    return session.run(['boxes', 'scores', 'labels', 'masks'], {'image': image})


def best_score(detector: nn.Module, image: np.ndarray) -> float:
    return float(deploy.detect(detector, image)[1].max())


def masks_of(instances: object) -> np.ndarray:
    """(N, H, W) bool."""
    return mask_utils.decode(instances.masks).transpose(2, 0, 1).astype(bool)


def once_each(instances: object) -> list:
    """Indices of the instances of which better ones leave at least half, by bitmaps."""
    masks, kept = masks_of(instances), []
    free = np.ones(masks.shape[1:], bool)
    for index in np.argsort(-instances.scores.numpy(), kind='stable'):
        if masks[index].any() and (masks[index] & free).sum() >= 0.5 * masks[index].sum():
            kept.append(index)
            free &= ~masks[index]
    return kept


@pytest.mark.parametrize('size', [(123, 245), (61, 170)])
def test_the_runner_of_the_docs_finds_what_the_checkpoint_finds(row, size, tmp_path):
    cfg, detector, content = row
    image = draw(1, *size)
    expected = predict(cfg, detector, image, tmp_path / 'image.png')
    assert len(expected.labels.unique()) > 1
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    runner = dict(__name__='find_cells')
    exec(RUNNER, runner)
    names, scores, boxes, xs, ys, windows = zip(*runner['find_cells'](session, image), strict=True)
    kept = once_each(expected)
    assert 50 < len(kept) < 0.9 * len(expected)  # doubles were there
    expected = expected[kept]

    # scores that are equal but for rounding may stand in another order
    labels, boxes = np.array([CLASSES.index(name) for name in names]), np.array(boxes)
    distance = np.abs(boxes - expected.bboxes.numpy()[:, None]).max(axis=2)
    distance[expected.labels.numpy()[:, None] != labels] = np.inf
    order = distance.argmin(axis=1)
    assert sorted(order) == list(range(len(names)))
    assert distance.min(axis=1).max() < 1e-2
    np.testing.assert_allclose(np.array(scores)[order], expected.scores, rtol=0, atol=1e-4)

    masks = np.zeros((len(names), *size), bool)
    for mask, index in zip(masks, order, strict=True):
        mask[ys[index] :, xs[index] :][: windows[index].shape[0], : windows[index].shape[1]] = windows[index]
    truth = masks_of(expected)
    union, differ = (masks | truth).sum((1, 2)), (masks ^ truth).sum((1, 2))
    # in a mask of less than 100 px a single one, of a probability at the threshold, is more than a hundredth
    assert ((differ < 0.01 * union) | (differ <= 1)).all()
    assert (union > 0).all() and (differ > 0).mean() < 0.02


def test_cells_of_all_classes_suppress_each_other_where_the_config_says_so():
    found = []
    for agnostic in (False, True):
        cfg = tiny_config(ROWS[1], rcnn=dict(score_thr=0.1, nms=dict(class_agnostic=agnostic)))
        deploy.check_traceable(cfg, 'x.pth')
        detector = random_detector(cfg)
        content = deploy.to_onnx(detector, {})
        assert re.search(r'agree on (\d{2,}) of \1 cells', deploy.compare(detector, content))
        found.append(len(run(content, draw(1, 128, 128))[0]))
    assert 10 < found[1] < 0.9 * found[0]


def test_an_image_without_a_detection_or_a_proposal(tmp_path):
    for test_cfg in (dict(rcnn=dict(score_thr=1.0)), dict(rpn=dict(min_bbox_size=10**4))):
        cfg = tiny_config(ROWS[1], **test_cfg)
        detector, image = random_detector(cfg), draw(2, 96, 96)
        assert len(predict(cfg, detector, image, tmp_path / 'image.png')) == 0
        found = run(deploy.to_onnx(detector, {}), image)
        assert [part.shape for part in found] == [(0, 4), (0,), (0,), (0, 28, 28)]


def test_a_graph_traced_where_nothing_is_found_finds_cells_elsewhere(monkeypatch):
    detector = random_detector(tiny_config(ROWS[1], rcnn=dict(score_thr=0)))
    images = sorted((draw(seed, 96, 96) for seed in range(3)), key=lambda image: best_score(detector, image))
    empty, full = images[0], images[-1]
    detector.roi_head.test_cfg.score_thr = (best_score(detector, empty) + best_score(detector, full)) / 2
    detector.test_cfg.rcnn.score_thr = detector.roi_head.test_cfg.score_thr
    monkeypatch.setattr(onnx_file, 'drawn_image', lambda: empty)
    content = deploy.to_onnx(detector, {})
    assert len(run(content, empty)[0]) == 0
    boxes, scores = run(content, full)[:2]
    expected_boxes, expected_scores, _ = deploy.detect(detector, full)
    np.testing.assert_allclose(boxes, expected_boxes, atol=1e-2)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-4)
    assert len(boxes)


def test_the_onnx_file_is_valid_and_says_what_it_is(row):
    cfg, _, content = row
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [('', 16)]
    notes = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert notes['classes'] == CLASSES and notes['mean'] == MEAN and notes['std'] == STD
    assert notes['resize'] == [512, 256] and notes['mask_thr_binary'] == 0.5
    assert (notes['channel_order'], notes['operating_point']) == ('bgr', POINT)
    assert Config.fromstring(notes['config'], '.py').model == cfg.model


def test_a_graph_that_does_otherwise_is_refused(row):
    cfg, detector, content = row
    assert re.search(r'agree on (\d{3,}) of \1 cells', deploy.compare(detector, content))
    other = random_detector(cfg)
    other.roi_head.bbox_head.fc_reg.bias.data += 0.1
    with pytest.raises(UserError, match=r'agree on only \d+ of \d+ cells'):
        deploy.compare(other, content)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            {'model.test_cfg.rcnn.nms.type': 'soft_nms'},
            r"model\.test_cfg\.rcnn\.nms\.type is 'soft_nms'.* only 'nms' or 'sparse_nms'",
        ),
        ({'model.test_cfg.rcnn.max_per_img': -1}, r'model\.test_cfg\.rcnn\.max_per_img is -1; .* above 0'),
        ({'test_dataloader.dataset.pipeline': []}, r'needs a Resize with scale and keep_ratio=True'),
        (
            {'test_dataloader.dataset.pipeline': [dict(type='Resize', scale_factor=2.0, keep_ratio=True)]},
            r'needs a Resize with scale and keep_ratio=True',
        ),
    ],
)
def test_what_an_onnx_file_cannot_hold_is_named(change, message):
    cfg = tiny_config(ROWS[0])
    deploy.check_traceable(cfg, 'x.pth')
    cfg.merge_from_dict(change)
    with pytest.raises(UserError, match=rf'x\.pth: .*{message}'):
        deploy.check_traceable(cfg, 'x.pth')


def test_safetensors_are_read_as_the_checkpoint_they_were_made_of(tiny_checkpoint, run_here, tmp_path, monkeypatch):
    path = tmp_path / 'model.safetensors'
    status, out, _ = run_here('deploy', tiny_checkpoint, '--out', path)
    assert status == 0 and re.search(
        r'weights as float32.*written to \S+model\.safetensors \([\d.]+ MB\)', out, re.DOTALL
    )
    assert f'classes: {json.dumps(CLASSES)}' in out
    subprocess.run(['sha256sum', '-c', f'{path.name}.sha256'], cwd=tmp_path, check=True, capture_output=True)
    old, new = read_checkpoint(str(tiny_checkpoint)), read_checkpoint(str(path))
    assert data_facts.checkpoint_data_facts(new, '') == dict(mean=MEAN, std=STD, classes=CLASSES)
    assert data_facts.checkpoint_channel_order(new, '') == 'bgr'
    assert (new['meta']['operating_point'], new['meta']['input_scale']) == (POINT, INPUT_SCALE)
    assert parse_config_text(new['meta']['cfg']) == parse_config_text(old['meta']['cfg'])
    loaded = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')  # the runner's way: load_from
    for state_dict in (new['state_dict'], loaded['state_dict']):
        assert state_dict.keys() == old['state_dict'].keys()
        assert all(torch.equal(value, state_dict[name]) for name, value in old['state_dict'].items())

    monkeypatch.chdir(tmp_path)
    notes = {}
    exec(NOTES, notes)
    assert notes['classes'] == CLASSES and set(notes['weights']) == set(old['state_dict'])


def test_half_precision_rounds_weights_alone(tiny_checkpoint, run_here, tmp_path):
    path = tmp_path / 'half.safetensors'
    assert run_here('deploy', tiny_checkpoint, '--out', path, '--half')[0] == 0
    old, new = (read_checkpoint(str(file))['state_dict'] for file in (tiny_checkpoint, path))
    for name, value in old.items():
        if value.is_floating_point() and '.running_' not in name:
            assert new[name].dtype == torch.float16
            torch.testing.assert_close(new[name].float(), value, rtol=2**-11, atol=2**-25)
        else:
            assert new[name].dtype == value.dtype and torch.equal(new[name], value)
    assert path.stat().st_size < 0.6 * tiny_checkpoint.stat().st_size


def test_statistics_beyond_float16_stay_whole():
    statistics = {'bn.running_mean': torch.tensor([7e4]), 'bn.running_var': torch.tensor([1e-9])}
    written = safetensors.torch.load(deploy.to_safetensors(statistics, {}, half=True))
    assert all(torch.equal(value, written[name]) for name, value in statistics.items())


def test_a_handed_over_config_names_no_place_on_this_machine():
    cfg = tiny_config(ROWS[1])
    cfg.merge_from_dict(dict(work_dir='/home/me/runs/7', data_root='/mnt/data/cells/', load_from='work_dirs/x.pth'))
    cfg.train_dataloader.dataset.data_root = cfg.data_root
    notes = deploy.metadata(cfg, dict(meta=dict(dataset_meta=dict(classes=CLASSES))))
    written = parse_config_text(json.loads(notes['config']))
    assert (written['work_dir'], written['data_root'], written['load_from']) == ('7', 'cells', 'work_dirs/x.pth')
    assert '/home' not in notes['config'] and '/mnt' not in notes['config']
    assert Config(written).model == cfg.model


def test_a_weight_beyond_float16_is_named():
    with pytest.raises(UserError, match=r'conv\.weight is up to 7e\+04, too large for float16'):
        deploy.to_safetensors({'conv.weight': torch.tensor([7e4])}, {}, half=True)


def test_another_config_takes_over_classes_and_normalisation(tiny_checkpoint, run_here, tmp_path):
    config = tmp_path / 'other.py'
    config.write_text(tiny_config(ROWS[1], rcnn=dict(score_thr=0.4)).pretty_text.replace("'bgr'", "'rgb'"))
    assert run_here('deploy', tiny_checkpoint, '--out', tmp_path / 'x.safetensors', '--config', config)[0] == 0
    new = read_checkpoint(str(tmp_path / 'x.safetensors'))
    assert Config.fromstring(new['meta']['cfg'], '.py').model.test_cfg.rcnn.score_thr == 0.4
    assert data_facts.checkpoint_channel_order(new, '') == 'bgr'


def test_the_onnx_file_runs_where_nothing_of_ours_is(tiny_checkpoint, run_here, tmp_path):
    status, out, _ = run_here('deploy', tiny_checkpoint, '--out', tmp_path / 'model.onnx')
    assert status == 0 and 'of a drawn image' in out and f'operating_point: {json.dumps(POINT)}' in out
    cv2.imwrite(str(tmp_path / 'image.png'), draw(3, 128, 128)[..., ::-1])
    absent = ''.join(f'sys.modules[{name!r}] = None\n' for name in ('torch', 'mmcv', 'mmdet', 'mmengine', 'cellseg_mm'))
    (tmp_path / 'find_cells.py').write_text('import sys\n' + absent + RUNNER)
    command = [sys.executable, 'find_cells.py', 'model.onnx', 'image.png']
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    # the cells of tools/predict.py
    assert len(lines) == len(CellInferencer(tiny_checkpoint)(draw(3, 128, 128)))
    assert len(lines) > 10 and all(re.fullmatch(r'[abc] \d\.\d{3} at \d+, \d+, \d+ px', line) for line in lines)

    # printed is what validation's threshold keeps, without one what 0.5 keeps; find_cells gives all
    session, runner = onnxruntime.InferenceSession(tmp_path / 'model.onnx'), dict(__name__='find_cells')
    exec(RUNNER, runner)
    scores = [cell[1] for cell in runner['find_cells'](session, draw(3, 128, 128))]
    assert len(lines) == sum(score >= POINT['score_thr'] for score in scores) < len(scores)
    model = onnx.load(tmp_path / 'model.onnx')
    next(entry for entry in model.metadata_props if entry.key == 'operating_point').value = 'null'
    onnx.save(model, tmp_path / 'model.onnx')
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert len(result.stdout.splitlines()) == sum(score >= 0.5 for score in scores) > 0


def test_broken_files_give_one_line(tiny_checkpoint, run_here, tmp_path):
    path, broken = tmp_path / 'x.safetensors', tmp_path / 'broken.safetensors'
    run_here('deploy', tiny_checkpoint, '--out', path)
    whole = path.read_bytes()
    weights, notes = safetensors.torch.load(whole), dict(cellseg_mm='"1"', config='""', classes='[')
    contents = [
        b'',
        b'hello',
        b'\xff' * 99,
        tiny_checkpoint.read_bytes(),
        whole[:7],
        whole[:1000],
        whole[:-1],
        whole + b'x',
    ]
    contents += [safetensors.torch.save(weights, notes), safetensors.torch.save(weights, dict(cellseg_mm='[' * 10**5))]
    for content in contents:
        broken.write_bytes(content)
        with pytest.raises(UserError, match=r'broken\.safetensors: not a whole file of tools/deploy\.py') as raised:
            read_checkpoint(str(broken))
        assert '\n' not in str(raised.value)
    broken.write_bytes(safetensors.torch.save(weights))
    with pytest.raises(UserError, match=r'not a checkpoint of .* tools/deploy\.py, it holds no state_dict'):
        read_checkpoint(str(broken))
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match='cut off or changed'):
        read_checkpoint(str(path))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('--out model.pt', r'model\.pt: the name must end in \.safetensors or \.onnx'),
        ('--out model.onnx --half', r'--half is for \.safetensors'),
        ('--out model.onnx --config none.py', r'none\.py: no such config file'),
        (
            f'--out model.onnx --config {ROOT}/configs/zoo/mask2former_r50.py',
            r"mask2former_r50\.py: model\.type is 'Mask2Former', but an ONNX file can hold only 'MaskRCNN'",
        ),
        (f'--out model.onnx --config {ROOT}/configs/maskrcnn_r50.py', r'is not of the model in .*maskrcnn_r50\.py'),
    ],
)
def test_mistakes_give_one_line(tiny_checkpoint, run_here, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = run_here('deploy', tiny_checkpoint, *arguments.split())
    assert status == 2 and re.search(f'^error: .*{message}.*\n$', err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('package', ['onnx', 'onnxruntime'])
def test_a_missing_package_is_named(tiny_checkpoint, run_here, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    status, _, err = run_here('deploy', tiny_checkpoint, '--out', tmp_path / 'model.onnx')
    assert status == 2 and err.endswith(f'need the package {package}: pip install onnx onnxruntime\n')
    assert not (tmp_path / 'model.onnx').exists()


def test_weights_alone_are_no_run_to_resume(tiny_checkpoint, prepared, run_here):
    config, options = ROOT / f'configs/demo/{ROWS[1]}.py', ['--cfg-options', f'data_root={prepared}']
    status, _, err = run_here('train', config, '--from-scratch', '--resume', tiny_checkpoint, *options)
    assert status == 2 and err.endswith('holds weights, but no run to resume; fine-tune it with --load-from\n')


@pytest.mark.slow
def test_every_tool_takes_safetensors_for_a_checkpoint(prepared, run_tool, tmp_path):
    """Tested, submitted and trained on; the figures are the checkpoint's own."""
    config, options = write_tiny_config(tmp_path / 'tiny.py', times=1), ['--cfg-options', f'data_root={prepared}']
    result = run_tool('train', config, '--from-scratch', '--work-dir', tmp_path / 'run', *options)
    assert result.returncode == 0, result.stderr[-3000:]
    files = [tmp_path / 'run/epoch_1.pth', tmp_path / 'x.safetensors']
    assert run_tool('deploy', files[0], '--out', files[1]).returncode == 0
    metrics = []
    for file in files:
        result = run_tool('test', config, file, '--work-dir', tmp_path / file.suffix, *options)
        assert result.returncode == 0, result.stderr[-3000:]
        metrics.append(read_json(tmp_path / file.suffix / 'test_metrics.json'))
    assert metrics[0] == metrics[1]
    result = run_tool('train', config, '--load-from', files[1], '--work-dir', tmp_path / 'tuned', *options)
    assert result.returncode == 0 and 'x.safetensors' in result.stdout + result.stderr
