"""A file of weights that asks to run code runs none, through whatever door it comes."""

import functools
import http.server
import os
import pickle
import re
import runpy
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from cellseg_mm.engine.checkpoint import TRUST_VARIABLE, load_safely, read_checkpoint
from cellseg_mm.utils import UserError, check_digest, parse_config_text

CONFIG = ROOT / 'configs/demo/maskrcnn_r18_fpn_cbam.py'
MAKE_TRACE = '__import__("os").mkdir("{trace}")'


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Builds(Calls):
    """Pickles as a harmless call and a state, which unpickling hands to __setstate__."""

    def __reduce__(self):
        return (HistoryBuffer, (), dict(log=self.call[0]))


def hostile_contents(trace: Path) -> dict:
    """Checkpoints that would make the folder ``trace`` if they could, by where they hide it."""
    make = Calls(os.mkdir, str(trace))
    log = HistoryBuffer([1.0], [1])
    log._statistics_methods = dict(mean=make)
    return {
        'state': dict(state_dict=dict(weight=make)),
        'nested': dict(state_dict={}, extra=dict(deep=[(1, [make])])),
        'key': dict(state_dict={}, meta={'epoch': 1}, other=[make]),
        'optimizer': dict(state_dict={}, optimizer=dict(state={0: dict(step=make)})),
        'meta': dict(state_dict={}, meta=dict(cfg=make)),
        'message hub': dict(state_dict={}, message_hub=dict(log_scalars={'train/loss': log})),
        'getattr': dict(state_dict={}, meta=Calls(getattr, np.ndarray, 'tofile')),
        'method of an allowed class': dict(state_dict={}, meta=Calls(getattr, HistoryBuffer, '__init__')),
        'state of an allowed class': dict(state_dict={}, meta=Builds(os.mkdir)),
        'eval': dict(state_dict={}, meta=Calls(eval, f'__import__("os").mkdir({str(trace)!r})')),
        'import': dict(state_dict={}, meta=Calls(runpy.run_path, str(trace))),
    }


@pytest.fixture
def trace(tmp_path) -> Path:
    path = tmp_path / 'code ran'
    yield path
    assert not path.exists()


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('where', hostile_contents(Path()))
def test_nothing_runs_wherever_it_hides(trace, tmp_path, where, zipped):
    path = tmp_path / 'x.pth'
    torch.save(hostile_contents(trace)[where], path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        UserError, match=rf'x\.pth: asks to run \S+ when .* {TRUST_VARIABLE}={check_digest(path)} before'
    ):
        read_checkpoint(str(path))


def test_nothing_runs_from_other_kinds_of_file(trace, tmp_path):
    path = tmp_path / 'x.pth'
    for protocol in (0, 2, 5):
        path.write_bytes(pickle.dumps(hostile_contents(trace)['state'], protocol))
        with pytest.raises(UserError, match=r'x\.pth: '):
            load_safely(str(path))
    torch.save(dict(state_dict={}, meta=np.array([Calls(os.mkdir, str(trace))], object)), path)
    with pytest.raises(UserError, match=r'x\.pth: '):
        load_safely(str(path))
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    with pytest.raises(UserError, match='not a whole checkpoint'):
        load_safely(str(path))


def test_an_extra_member_of_the_archive_is_not_touched(trace, tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(2))), path)
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('x/code.py', f'import os; os.mkdir({str(trace)!r})')
        archive.writestr('x/extra.pkl', pickle.dumps(hostile_contents(trace)['state']))
    assert read_checkpoint(str(path))['state_dict']['weight'].tolist() == [1, 1]


def test_a_file_that_one_trusts_is_let_in_by_its_digest_alone(tmp_path, monkeypatch):
    path, other = tmp_path / 'x.pth', tmp_path / 'y.pth'
    torch.save(dict(state_dict={}, meta=Calls(divmod, 7, 2)), path)
    torch.save(dict(state_dict={}, meta=Calls(divmod, 8, 2)), other)
    monkeypatch.setenv(TRUST_VARIABLE, check_digest(path))
    assert read_checkpoint(str(path))['meta'] == (3, 1)
    with pytest.raises(UserError, match='asks to run'):
        read_checkpoint(str(other))


@pytest.fixture
def hostile(trace, tmp_path) -> Path:
    path = tmp_path / 'x.pth'
    torch.save(hostile_contents(trace)['state'], path)
    return path


def test_nothing_runs_through_mmengine(hostile):
    with pytest.raises(UserError, match='asks to run'):
        CheckpointLoader.load_checkpoint(str(hostile))
    backbone = MODELS.build(dict(type='ResNet', depth=18, init_cfg=dict(type='Pretrained', checkpoint=str(hostile))))
    with pytest.raises(UserError, match='asks to run'):
        backbone.init_weights()


def test_nothing_runs_from_the_web(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'cache'))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match='asks to run'):
            CheckpointLoader.load_checkpoint(f'http://127.0.0.1:{server.server_port}/x.pth')
        server.shutdown()
    for scheme in ('torchvision://resnet50', 's3://bucket/x.pth', 'open-mmlab://x', 'mmcls://x', 'modelzoo://x'):
        with pytest.raises(UserError, match='download them and give the file'):
            CheckpointLoader.load_checkpoint(scheme)


@pytest.mark.parametrize(
    'command',
    [
        'train {config} --resume {file}',
        'train {config} --load-from {file}',
        'train {config} --backbone-weights {file}',
        'test {config} {file}',
        'submission make {config} {file} --images {data} --ids {ids} --out out.zip',
        'predict {file} {data}/images --out out',
        'deploy {file} --out out.onnx',
        'app {file}',
    ],
)
def test_nothing_runs_through_a_tool(command, hostile, prepared, tmp_path, run_here):
    ids = tmp_path / 'ids.json'
    ids.write_text('[{"file_name": "a.tif", "id": 1, "height": 8, "width": 8}]')
    tool, *words = (word.format(config=CONFIG, file=hostile, data=prepared, ids=ids) for word in command.split())
    if str(CONFIG) in words:
        words += ['--cfg-options', f'data_root={prepared}']
    if tool in ('train', 'test'):
        words += ['--work-dir', str(tmp_path / 'work')]
    status, _, err = run_here(tool, *words)
    assert status == 2 and 'x.pth: asks to run posix.mkdir' in err


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('model.backbone', dict(type='os.mkdir', path='{trace}')),
        ('tta_model', dict(type='os.mkdir', path='{trace}')),
        ('test_dataloader.dataset.pipeline', [dict(type='os.mkdir', path='{trace}')]),
        ('model.test_cfg.rcnn.nms.type', MAKE_TRACE),
        ('model.test_cfg.rcnn.nms.type', 'getattr(__import__("os"),"mkdir")("{trace}")'),
        ('model.train_cfg.rpn.assigner', dict(type='CameraMotionCompensation', warp_mode=MAKE_TRACE)),
    ],
)
def test_nothing_runs_that_its_config_names(key, value, trace, tiny_checkpoint, tmp_path, prepared, run_here):
    path, checkpoint = tmp_path / 'x.pth', read_checkpoint(str(tiny_checkpoint))
    cfg = Config(parse_config_text(checkpoint['meta']['cfg']))
    cfg.merge_from_dict({key: dict(value, _delete_=True) if isinstance(value, dict) else value})
    checkpoint['meta']['cfg'] = cfg.pretty_text.replace('{trace}', str(trace))
    torch.save(checkpoint, path)
    status, _, err = run_here('predict', path, prepared / 'images', '--out', tmp_path / 'out')
    assert status == 2 and re.search(r'x\.pth: its config names .*, which may be any program', err)
