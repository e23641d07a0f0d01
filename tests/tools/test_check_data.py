import json
import runpy
import shutil
import sys

import numpy as np
import pytest
from conftest import ROOT, read_json

from cellseg_mm.datasets import prepare
from cellseg_mm.datasets.synthetic import draw_tissue, write_sample

CONFIG = ROOT / 'configs/demo/maskrcnn_r18_fpn.py'
TITLES = ['files', 'duplicates', 'class balance', 'border', 'sizes', 'empty images']
TITLES += ['overlaps', 'parts', 'ignored', 'cover', 'anchors']


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Run the tool in this process; return its exit status, what it printed, and its error lines."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['check_data.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / 'tools/check_data.py'), run_name='__main__')
        printed = capsys.readouterr()
        errors = [line for line in printed.err.splitlines() if line.startswith('error: ')]
        return stopped.value.code, printed.out, errors

    return run


@pytest.fixture(scope='module')
def flawless(tmp_path_factory):
    """A prepared data set without a warning."""
    root = tmp_path_factory.mktemp('flawless')
    for index in range(9):
        image, instance_map, labels = draw_tissue(np.random.default_rng([1, index]), 192, 192, 2.0)
        write_sample(root / 'source' / ('test' if index < 3 else 'train') / f'{index}', image, instance_map, labels)
    prepare(root / 'source', root / 'cells', val_fraction=0.5, workers=1)
    return root / 'cells'


def test_as_a_user(flawless, run_tool):
    result = run_tool('check_data', flawless, '--config', CONFIG, '--strict')
    assert result.returncode == 0, result.stdout + result.stderr
    lines = [line for line in result.stdout.splitlines() if not line.startswith(' ')]
    assert [line.split(':')[0] for line in lines[:-1]] == [f'ok      {title}' for title in TITLES]
    assert lines[-1] == '0 of 11 checks warn'
    counts = read_json(flawless / 'statistics.json')['instances']['train']
    assert f'best anchor IoU below 0.3 for 0.0% of {sum(counts.values())} training cells' in result.stdout
    for name, count in counts.items():
        assert f'| {name} |{count:>15} |   0.0% |' in result.stdout
    assert 'image/s' in result.stderr  # progress


def test_strict_refuses_a_warning(flawless, run_here, tmp_path):
    shutil.copytree(flawless, tmp_path / 'cells')
    next((tmp_path / 'cells/images').iterdir()).unlink()
    status, printed, _ = run_here(tmp_path / 'cells')
    assert status == 0 and 'WARNING files' in printed and printed.endswith('1 of 10 checks warn\n')
    assert run_here(tmp_path / 'cells', '--strict') == (1, printed, [])


def test_anchors_that_miss_cells(flawless, run_here, tmp_path):
    config = tmp_path / 'large.py'
    config.write_text(
        f"_base_ = '{CONFIG.as_posix()}'\nmodel = dict(rpn_head=dict(anchor_generator=dict(scales=[40])))\n"
    )
    status, printed, _ = run_here(flawless, '--config', config, '--strict')
    assert status == 1 and 'WARNING anchors' in printed


def test_ignored_regions_need_no_anchors(flawless, run_here, tmp_path):
    shutil.copytree(flawless, tmp_path / 'cells')
    path = tmp_path / 'cells/annotations/train.json'
    content = read_json(path)
    for entry in content['annotations'][::2]:
        entry['iscrowd'] = 1
    path.write_text(json.dumps(content))
    status, printed, errors = run_here(tmp_path / 'cells', '--config', CONFIG)
    assert status == 0 and 'anchors' in printed and not errors


def test_mistakes(flawless, run_here, tmp_path):
    config = tmp_path / 'none.py'
    config.write_text('model = dict()\n')
    for arguments, message in (
        ([tmp_path], 'tools/prepare_data.py makes a prepared data set'),
        ([tmp_path, '--config', CONFIG], 'tools/prepare_data.py makes a prepared data set'),
        ([flawless, '--config', tmp_path / 'x.py'], 'no such config file'),
        ([flawless, '--config', config], 'no anchor_generator with anchors to check'),
    ):
        status, printed, errors = run_here(*arguments)
        assert status == 2 and len(errors) == 1 and message in errors[0] and not printed
