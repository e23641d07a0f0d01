import csv
import gc
import importlib.util
import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from processes import run_script
from tiny_detector import narrow, save_tiny_checkpoint

import cellseg_mm  # noqa: F401  (registers)
from cellseg_mm.datasets import make_sample_data, prepare
from cellseg_mm.visualization import CellVisualizer

ROOT = Path(__file__).parents[1]
FLAGSHIP = ROOT / 'configs/maskrcnn_r50_fpn_cbam.py'
# files of more than 20 s of a core, the longest first
LONGEST = ['test_kill_and_resume', 'test_tools', 'test_ablate', 'test_inferencer', 'test_deploy', 'test_page']
LONGEST += ['test_zoo', 'test_correct', 'test_configs', 'test_same_coordinates']
os.environ['CELLSEG_MM_PRECISION'] = 'fp32'  # the same figures on every processor, also in tools that tests run
os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'] = '1'  # does not start the driver, so that processes.py can fork


def pytest_collection_finish():
    """What is there now stays: mmengine collects garbage for each data set, and would look at all of it."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Tests marked `cuda` need a device. Long files come first: last, one would keep a core waiting."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker('cuda'):
                item.add_marker(pytest.mark.skip(reason='no CUDA device'))


@pytest.fixture(autouse=True)
def _mmdet_scope():
    init_default_scope('mmdet')
    torch.manual_seed(0)
    yield
    MMLogger._instance_dict.clear()  # a run closes its log, and mmengine would go on writing there
    CellVisualizer._instance_dict.clear()  # and the next run would write its metrics into the folder of the last one


@pytest.fixture(scope='session')
def sample(tmp_path_factory) -> Path:
    """A small synthetic set in the task's layout."""
    out = tmp_path_factory.mktemp('sample')
    make_sample_data(out, num_images=12, size=96, seed=1)
    return out


@pytest.fixture(scope='session')
def prepared(sample, tmp_path_factory) -> Path:
    """The prepared form of `sample`."""
    out = tmp_path_factory.mktemp('prepared') / 'cells'
    prepare(sample, out, workers=1)
    return out


@pytest.fixture
def cfg() -> Config:
    """The config of the flagship, as its file says."""
    return Config.fromfile(FLAGSHIP)


@pytest.fixture(scope='session')
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint file as training writes it, of random weights."""
    path = tmp_path_factory.mktemp('checkpoint') / 'best.pth'
    save_tiny_checkpoint(path)
    return path


@pytest.fixture(scope='module')
def browser():
    """A headless Chromium. Playwright's loop must end with the module, because no other loop can run beside it."""
    from playwright.sync_api import sync_playwright

    names = ('chromium', 'chromium-browser', 'google-chrome')
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip('no Chromium: apt-get install chromium')
    # as root without a sandbox of its own; quiet towards the network
    flags = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update']
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def run_tool(tmp_path) -> Callable:
    """Run a tool in a process of its own, from a directory that is not the project's."""
    return lambda name, *arguments: run_script(ROOT / f'tools/{name}.py', *arguments, folder=tmp_path)


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Run a tool in this process, where mmdet is imported already; its exit status and what it printed."""

    def run(name: str, *arguments: object) -> tuple:
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(ROOT / f'tools/{name}.py'), run_name='__main__')
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def one_line_error(run_here, monkeypatch, tmp_path):
    """Run a tool that must fail on a user's mistake, from a directory that is not the project's; return its one line.

    In this process, where an error that is not one of the user's comes out as it is.
    """

    def run(name: str, *arguments: object) -> str:
        monkeypatch.chdir(tmp_path)
        status, _, errors = run_here(name, *arguments)
        assert status == 2, errors
        lines = [line for line in errors.splitlines() if line.startswith('error: ')]
        assert len(lines) == 1, errors
        return lines[0]

    return run


def build_dataset(prepared: Path, pipeline: list, **options) -> object:
    """The training split of a prepared set. The options are the data set's."""
    return DATASETS.build(
        dict(
            type='CellDataset',
            data_root=str(prepared),
            ann_file='annotations/train.json',
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=read_json(prepared / 'statistics.json')['classes']),
            pipeline=pipeline,
            **options,
        )
    )


# A config for a few steps on small images, without augmentation.
TINY = """
_base_ = '{base}'
resize = dict(type='Resize', scale=(128, 128), keep_ratio=True)
plain = ('LoadImageFromFile', 'LoadCellAnnotations', 'Resize', 'PackDetInputs')
train_pipeline = [step for step in _base_.train_pipeline if step['type'] in plain]
train_pipeline = [resize if step['type'] == 'Resize' else step for step in train_pipeline]
test_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.test_pipeline]
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times={times},
        dataset=dict(_base_.train_dataloader.dataset, pipeline=train_pipeline),
    ),
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=10),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=10, end=120),
]
"""


def write_tiny_config(
    path: Path, times: int, base: str = 'demo/maskrcnn_r18_fpn_cbam', width: int | None = None
) -> Path:
    """A config file that trains each image so many times in its one epoch; with a width, see tiny_detector.narrow."""
    base = ROOT / f'configs/{base}.py'
    text = TINY.format(times=times, base=base.as_posix())
    if width:
        text += f'model = {narrow(Config.fromfile(base).model, width)!r}\n'
    path.write_text(text)
    return path


def write_class_folder(folder: Path, image: np.ndarray, **masks: np.ndarray) -> None:
    """image.tif from (H, W, 3 or 4) in the file's channel order, and classN.tif from arrays named classN."""
    folder.mkdir(parents=True)
    order = [2, 1, 0, 3][: image.shape[2]]
    cv2.imwrite(str(folder / 'image.tif'), image[..., order])
    for name, mask in masks.items():
        cv2.imwrite(str(folder / f'{name}.tif'), mask.astype(np.float64))


def load_tool(name: str) -> object:
    """The module of a tool, for tests of its functions."""
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_json(path: Path) -> dict:
    return json.loads(path.read_text('utf-8'))


def read_csv(path: Path) -> list:
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def whole(source: object) -> np.ndarray:
    """All pixels of an image."""
    return source.read(0, 0, source.width, source.height)
