"""tools/ablate.py as a user runs it, and as a machine that goes down leaves it."""

import csv
import json
import os
import shutil
import signal
import threading
import time
from types import SimpleNamespace

import cv2
import psutil
import pytest
from conftest import ROOT, load_tool, read_json, write_tiny_config
from matplotlib.figure import Figure
from processes import run_script, start_script

from cellseg_mm.evaluation.ablation_summary import COSTS, METRICS
from cellseg_mm.utils import locked

ROWS = ['maskrcnn_r18', 'maskrcnn_r18_fpn', 'maskrcnn_r18_fpn_cbam']
SHORT = ['train_cfg.max_epochs=2', 'train_dataloader.dataset.dataset.indices=2', 'model.test_cfg.rcnn.score_thr=0.001']
SHORT += ['model.test_cfg.rcnn.max_per_img=50', 'val_dataloader.dataset.indices=2', 'test_dataloader.dataset.indices=2']

ablate = load_tool('ablate')


def options(rows, prepared, folder, out, *more):
    configs = [write_tiny_config(folder / f'{row}.py', times=2, base=f'demo/{row}', width=16) for row in rows]
    return [*configs, '--from-scratch', '--out', out, *more, '--cfg-options', f'data_root={prepared}', *SHORT]


def run(arguments):
    return run_script(ROOT / 'tools/ablate.py', *arguments, folder=ROOT)


def kill_when(condition, arguments):
    """Start the tool, and take it and what it started down by SIGKILL as soon as the condition holds."""
    process = start_script(ROOT / 'tools/ablate.py', *arguments, folder=ROOT)
    while not condition():
        assert process.is_alive(), 'it ended before it was killed'
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()


def figures_of(out):
    """All but seconds and memory."""
    content = read_json(out / 'ablation.json')
    rows = [[row[key] for key in ('row', 'seeds', 'figures', 'differences', 'parameters')] for row in content['rows']]
    return rows, [[run[key] for key in ('row', 'seed', 'digest', 'figures')] for run in content['runs']]


def test_killed_in_the_middle_it_ends_with_the_same_table(prepared, run_here, tmp_path):
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    result = run(options(ROWS[2:], prepared, tmp_path, whole))
    assert result.returncode == 0, result.stderr[-3000:]
    arguments = options(ROWS[2:], prepared, tmp_path, broken)
    # between the first epoch's checkpoint and the second's
    kill_when(lambda: any(broken.glob('runs/*/seed_0/train/last_checkpoint')), arguments)
    assert not (broken / 'ablation.json').exists()
    result = run(arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    assert figures_of(broken) == figures_of(whole)
    log = next(broken.glob('runs/*/seed_0/train.log')).read_text()
    assert 'resumed epoch: 1' in log

    # once more: nothing is left to do, and the table stands
    before = {path: path.stat().st_mtime for path in broken.glob('runs/**/*.pth')}
    status, printed, _ = run_here('ablate', *arguments)
    assert status == 0 and '| maskrcnn_r18_fpn_cbam |' in printed
    assert {path: path.stat().st_mtime for path in broken.glob('runs/**/*.pth')} == before
    assert cv2.imread(str(broken / 'ablation.png')).std() > 10
    (line,) = csv.DictReader((broken / 'ablation.csv').open())
    assert line['row'] == ROWS[2] and line['commit'] and float(line['seconds_an_epoch']) > 0

    # the whole of it in a page
    status, printed, errors = run_here('report', whole)
    assert status == 0, errors
    assert f'written to {whole}/report.html' in printed and 'run/s' in errors
    page = (whole / 'report.html').read_text()
    assert 'maskrcnn_r18_fpn_cbam, seed 0' in page and 'What is missing' not in page
    assert page.count('class="panels"') == 2 and 'not recorded' not in page  # two test images; commit and device


def test_mistakes(prepared, one_line_error, tmp_path):
    configs = [
        write_tiny_config(tmp_path / f'{row}.py', times=1 + (row == ROWS[2]), base=f'demo/{row}') for row in ROWS
    ]
    options = ['--out', tmp_path / 'out', '--cfg-options', f'data_root={prepared}']
    message = one_line_error('ablate', *configs, *options)
    assert 'train_dataloader.dataset.times (1 -> 2)' in message and 'cannot be compared' in message
    assert 'no such folder; train without --table-only' in one_line_error(
        'ablate', configs[0], '--table-only', *options
    )
    broken = [*options, 'model.backbone.depth=7']
    message = one_line_error('ablate', configs[0], '--from-scratch', *broken)
    assert 'tools/train.py failed' in message and 'train.log' in message


def test_a_test_split_without_labels_is_refused_before_training(prepared, one_line_error, tmp_path):
    root = shutil.copytree(prepared, tmp_path / 'cells')
    path = root / 'annotations/test.json'
    path.write_text(json.dumps(dict(read_json(path), annotations=[])))
    config = write_tiny_config(tmp_path / f'{ROWS[0]}.py', times=1, base=f'demo/{ROWS[0]}')
    message = one_line_error('ablate', config, '--out', tmp_path / 'out', '--cfg-options', f'data_root={root}')
    assert 'cells: no labels in the test split' in message and not (tmp_path / 'out').exists()


def test_sigterm_ends_the_training_too(prepared, tmp_path):
    """The tool itself, with a program that waits in the place of tools/train.py."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools/train.py').write_text(
        'import os, time\nfrom pathlib import Path\nPath("pid").write_text(f"{os.getpid()}\\n")\ntime.sleep(300)\n'
    )
    script, errors = tmp_path / 'ablate.py', tmp_path / 'errors'
    script.write_text(
        'import runpy, sys\nfrom pathlib import Path\nfrom cellseg_mm.engine import ablation\n'
        f'ablation.PROJECT_ROOT = Path({str(tmp_path)!r})\n'
        f'runpy.run_path({str(ROOT / "tools/ablate.py")!r}, run_name="__main__")\n'
    )
    arguments = options(ROWS[:1], prepared, tmp_path, tmp_path / 'out')
    process = start_script(script, *arguments, folder=tmp_path, stderr=errors)
    pid = tmp_path / 'pid'
    while not (pid.exists() and pid.read_text().endswith('\n')):
        assert process.is_alive(), errors.read_text()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 130
    assert errors.read_text().endswith('stopped; the same command goes on\n')
    assert not psutil.pid_exists(int(pid.read_text()))
    (folder,) = (tmp_path / 'out').glob('runs/*/seed_0')
    assert not (folder / 'trained.json').exists()
    with locked(folder / 'lock', busy='the run is still locked'):
        pass


def write_result(folder, seed):
    """Of a test of one image without a cell."""
    origin = dict(commit='abc', device='a CPU', versions={})
    run = dict(row='row', seed=seed, digest='x', test_images=['a.png'], peak_memory_of='process', trained_by=origin)
    run['figures'] = dict.fromkeys(METRICS, 0.5)
    run |= dict.fromkeys(COSTS, 1)
    run['evidence'] = dict(image=[], label=[], hits=[], ignored=[], actual=[[0]], pq=[None])
    (folder / f'seed_{seed}').mkdir(parents=True)
    (folder / f'seed_{seed}/result.json').write_text(json.dumps(run))


def test_calls_that_share_out_leave_the_table_of_all_runs(tmp_path, monkeypatch):
    """The first has read the runs when the second one's ends."""
    row = SimpleNamespace(name='row', folder=lambda out: out / 'runs/row-x')
    has_read, may_go_on = threading.Event(), threading.Event()

    def slow_at_first(runs):
        if not has_read.is_set():
            has_read.set()
            assert may_go_on.wait(20)
        return summarise(runs)

    summarise = ablate.summarise
    monkeypatch.setattr(ablate, 'summarise', slow_at_first)
    monkeypatch.setattr(ablate, 'plot_ablation', lambda *_: Figure())
    first, second = (threading.Thread(target=ablate.write_summary, args=([row], tmp_path)) for _ in range(2))
    write_result(row.folder(tmp_path), 0)
    first.start()
    assert has_read.wait(20)
    write_result(row.folder(tmp_path), 1)
    second.start()
    second.join(0.5)  # long enough to be done, were it not to wait
    may_go_on.set()
    first.join()
    second.join()
    assert read_json(tmp_path / 'ablation.json')['rows'][0]['seeds'] == [0, 1]


@pytest.mark.slow
def test_three_rows_with_two_seeds_killed_again_and_again(prepared, tmp_path):
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    result = run(options(ROWS, prepared, tmp_path, whole, '--seeds', 0, 1))
    assert result.returncode == 0, result.stderr[-3000:]
    rows, runs = figures_of(whole)
    assert [row[0] for row in rows] == ROWS and [row[1] for row in rows] == [[0, 1]] * 3
    assert len(runs) == 6 and rows[1][3] and rows[2][3]

    arguments = options(ROWS, prepared, tmp_path, broken, '--seeds', 0, 1)
    for pattern, count in (
        ('runs/*/seed_0/train/20*', 1),  # it trains the first epoch
        ('runs/*/seed_0/train/epoch_1.pth', 1),  # it writes a checkpoint
        ('runs/*/seed_0/test.log', 2),  # it tests the second row
        ('runs/*/seed_1/train/last_checkpoint', 2),
    ):
        kill_when(lambda pattern=pattern, count=count: len(list(broken.glob(pattern))) >= count, arguments)
    result = run(arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    assert figures_of(broken) == figures_of(whole)


@pytest.mark.slow
def test_two_processes_share_a_run(prepared, tmp_path):
    arguments = options(ROWS[1:2], prepared, tmp_path, tmp_path / 'out', '--nproc', '2')
    result = run(arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    (folder,) = (tmp_path / 'out').glob('runs/*/seed_0')
    assert 'num_processes = 2' in (folder / 'config.py').read_text()  # so its digest is not that of one process
    assert all('GPU number: 2' in next((folder / part).glob('*/*.log')).read_text() for part in ('train', 'test'))
    assert read_json(folder / 'result.json')['figures']['segm_AP50_max1000'] >= 0


@pytest.mark.slow
def test_a_budget_sets_the_schedule_and_later_calls_take_it(prepared, tmp_path):
    out = tmp_path / 'out'
    result = run(options(ROWS[1:2], prepared, tmp_path, out, '--budget', '2m'))
    assert result.returncode == 0, result.stderr[-3000:]
    epochs = read_json(out / 'schedule.json')['epochs']
    assert f'{epochs} epochs a run' in result.stdout
    assert read_json(out / 'schedule.json')['trials']['maskrcnn_r18_fpn']['steps'] > 0
    assert (next(out.glob('runs/*/seed_0/train')) / f'epoch_{epochs}.pth').exists()

    digest = read_json(out / 'ablation.json')['runs'][0]['digest']
    result = run(options(ROWS[1:2], prepared, tmp_path, out, '--table-only'))
    assert result.returncode == 0 and digest in result.stdout
