"""What goes wrong around a training gives one line and loses nothing."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, build_dataset, read_json
from mmengine.logging import MessageHub
from mmengine.runner import save_checkpoint
from torch.utils.data import DataLoader

from cellseg_mm.datasets import prepare
from cellseg_mm.datasets.cell_dataset import UNKNOWN_CLASS
from cellseg_mm.datasets.prepare import _write_image
from cellseg_mm.engine import FiniteLossHook, TrainingSetHook
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.engine.run_config import training_config
from cellseg_mm.engine.starting_weights import start_from_checkpoint
from cellseg_mm.models.bbox_heads import OneClassBBoxHead
from cellseg_mm.utils import UserError, write_json
from cellseg_mm.utils.errors import explain

DEMO = ROOT / 'configs/demo/maskrcnn_r18_fpn_cbam.py'


def after_iteration(last_ckpt: str | None, **losses: float) -> None:
    hub = MessageHub(f'test_{last_ckpt}')
    if last_ckpt:
        hub.update_info('last_ckpt', last_ckpt)
    batch = dict(data_samples=[SimpleNamespace(img_path=f'/data/images/{name}.png') for name in 'ab'])
    outputs = {name: torch.tensor(value) for name, value in losses.items()}
    FiniteLossHook().after_train_iter(SimpleNamespace(iter=41, epoch=2, message_hub=hub), 0, batch, outputs)


def test_a_loss_that_is_no_number_stops_with_images_and_the_last_checkpoint():
    after_iteration('work/epoch_2.pth', loss=1.0, loss_mask=0.0, acc=float('nan'))
    for wrong in (float('nan'), float('inf')):
        with pytest.raises(
            UserError, match=r'iteration 42 \(epoch 3\): loss_mask .* a\.png, b\.png.*work/epoch_2\.pth'
        ):
            after_iteration('work/epoch_2.pth', loss=1.0, loss_mask=wrong)
    with pytest.raises(UserError, match='none, because no epoch had ended'):
        after_iteration(None, loss=float('nan'))


def test_a_class_without_a_cell_is_warned_of(prepared):
    dataset = build_dataset(prepared, [])
    counts = read_json(prepared / 'statistics.json')['instances']['train']
    dataset._metainfo['classes'] = (*dataset.metainfo['classes'], 'martian')
    printed, warned = [], []
    logger = SimpleNamespace(info=printed.append, warning=warned.append)
    TrainingSetHook().before_train(SimpleNamespace(train_dataloader=SimpleNamespace(dataset=dataset), logger=logger))
    assert all(f'{name} {count:,}' in printed[0] for name, count in counts.items())
    assert 'no training cell is a martian: the model will never find one' in warned


def test_cells_of_unknown_class_need_a_head_that_learns_from_them(prepared):
    dataset = build_dataset(prepared, [], unknown_class=True)
    assert {instance['bbox_label'] for instance in dataset.get_data_info(0)['instances']} == {UNKNOWN_CLASS}
    printed = []
    logger = SimpleNamespace(info=printed.append, warning=printed.append)
    head = OneClassBBoxHead(in_channels=4, fc_out_channels=8, num_classes=4)
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=dataset), logger=logger, model=head)
    TrainingSetHook().before_train(runner)
    cells = sum(read_json(prepared / 'statistics.json')['instances']['train'].values())
    assert f'of unknown class {cells:,}' in printed[0]
    runner.model = torch.nn.Identity()
    with pytest.raises(UserError, match=f'{cells:,} cells are of unknown class'):
        TrainingSetHook().before_train(runner)


def test_a_set_without_an_image_is_an_error_in_one_line(prepared, tmp_path):
    root = shutil.copytree(prepared, tmp_path / 'cells')
    content = read_json(root / 'annotations/train.json')
    write_json(root / 'annotations/train.json', dict(content, images=[], annotations=[]))
    with pytest.raises(UserError, match=r'train\.json: lists no image'):
        build_dataset(root, [])


def test_fine_tuning_on_other_classes_prints_it(prepared, tmp_path, capsys):
    cfg = training_config(str(DEMO), dict(data_root=str(prepared)), str(tmp_path), from_scratch=True)
    meta = dict(dataset_meta=dict(classes=['tumour', 'stroma']))
    save_checkpoint(dict(state_dict={}, meta=meta), str(tmp_path / 'x.pth'))
    start_from_checkpoint(cfg, str(tmp_path / 'x.pth'))
    assert 'was trained on tumour, stroma; heads for the new classes start anew' in capsys.readouterr().out


def test_a_prepared_set_whose_source_has_changed_prints_a_warning(sample, tmp_path, capsys):
    source = shutil.copytree(sample, tmp_path / 'source')
    prepare(source, tmp_path / 'cells', workers=1)
    options = dict(data_root=str(tmp_path / 'cells'))
    training_config(str(DEMO), options, str(tmp_path / 'work'), from_scratch=True)
    assert 'has changed' not in capsys.readouterr().out
    next(source.glob('train/*/class1.tif')).touch()
    training_config(str(DEMO), options, str(tmp_path / 'work'), from_scratch=True)
    assert f'its source {source} has changed since it was prepared' in capsys.readouterr().out
    shutil.rmtree(source)  # a set may be used where its source is not
    training_config(str(DEMO), options, str(tmp_path / 'work'), from_scratch=True)
    assert 'has changed' not in capsys.readouterr().out


class Deadly:
    """A data set that kills the process that reads it."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_worker_is_explained():
    with pytest.raises(RuntimeError) as raised:
        list(DataLoader(Deadly(), num_workers=1))
    assert 'a data worker died' in explain(raised.value) and '\n' not in explain(raised.value)


@pytest.mark.parametrize(
    'error, expected',
    [
        (
            torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'),
            'train_dataloader.batch_size',
        ),
        (MemoryError('Unable to allocate 9 GiB'), 'num_workers'),
        (OSError(errno.ENOSPC, 'No space left', 'work/x.json'), 'work/x.json: no space left'),
        (RuntimeError('Traceback ...\ncellseg_mm.utils.errors.UserError: a.png: broken'), None),
        (UserError('Traceback ...\ncellseg_mm.utils.errors.UserError: a.png: broken'), 'a.png: broken'),
        (ValueError('a bug'), None),
        (OSError(errno.EIO, 'Input/output error'), None),
    ],
)
def test_known_failures_are_explained_and_bugs_are_not(error, expected):
    line = explain(error)
    assert line is None if expected is None else expected in line and '\n' not in line


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB, where mounting is allowed."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk], capture_output=True)
    if mounted.returncode:
        pytest.skip('mounting a file system is not allowed here')
    yield disk
    subprocess.run(['umount', disk], check=True)


def test_a_full_disk_leaves_the_last_checkpoint(small_disk):
    path = small_disk / 'epoch_1.pth'
    content = dict(state_dict=dict(weight=torch.arange(150_000, dtype=torch.float32)))
    save_checkpoint(content, str(path))
    with pytest.raises(OSError) as raised:
        save_checkpoint(dict(content, epoch=2), str(path))  # old and new do not fit together
    assert explain(raised.value).startswith(f'{path}: no space left on the disk')
    assert torch.equal(read_checkpoint(str(path))['state_dict']['weight'], content['state_dict']['weight'])
    assert [entry.name for entry in small_disk.iterdir()] == ['epoch_1.pth']


def test_a_small_image_on_a_full_disk_is_an_error(small_disk):
    """OpenCV's own writer leaves an empty file, and says that all went well."""
    with contextlib.suppress(OSError):
        (small_disk / 'large').write_bytes(bytes(2**21))
    with pytest.raises(OSError) as raised:
        _write_image(small_disk / 'x.png', np.zeros((8, 8, 3), np.uint8), 'rgb')
    assert explain(raised.value).startswith(f'{small_disk}/x.png: no space left on the disk')


def test_a_run_whose_checkpoints_do_not_fit_does_not_start(small_disk, prepared, run_tool):
    options = ['--cfg-options', f'data_root={prepared}', 'visualizer.vis_backends=[]']
    # in a process of its own, because the log keeps the disk busy until its process ends
    result = run_tool('train', DEMO, '--from-scratch', '--work-dir', small_disk / 'run', *options)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert 'error: ' in result.stderr and 'the checkpoints of this run need' in result.stderr
