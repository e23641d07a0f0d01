"""The benchmarks at sizes of seconds: they run, and end with their two ratios."""

import shutil

import pytest
from conftest import ROOT
from processes import run_script


def last_lines(name, *arguments):
    result = run_script(ROOT / f'benchmarks/{name}.py', *arguments, folder=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    *table, memory, ratio = result.stdout.splitlines()
    assert memory.startswith('memory_ratio ') and float(ratio.removeprefix('ratio ')) > 0
    return [line.split('|') for line in table]


def test_assign():
    table = last_lines('assign', '--size', 128, '--cells', 3, 8)
    assert [(row[1].strip(), row[3].strip()) for row in table[2:]] == [
        (stage, cells) for stage in ('rcnn', 'rpn') for cells in ('3', '8')
    ]


def test_nms():
    table = last_lines('nms', '--cells', 12, '--repeats', 1)  # fails if results differ
    assert [row[1].strip() for row in table[2::2]] == ['train, early', 'train, late', 'dense', 'cells']


def test_roi_align():
    table = last_lines('roi_align', '--sizes', 64, '--proposals', 20, '--repeats', 1)  # fails if results differ
    assert [row[1].strip() for row in table[2:]] == ['infer'] * 4 + ['train'] * 4


def test_train_step():
    small = ROOT / 'configs/demo/maskrcnn_r18_fpn.py'
    table = last_lines('train_step', '--config', small, '--sizes', 64, '--cells', 4, '--repeats', 1)
    assert float(table[2][-2]) <= 1e-5  # losses of ours and of stock
    assert table[7][1].strip() == 'copies of ground truth'


def test_augmentation():
    table = last_lines('augmentation', '--sizes', 64, '--cells', 3, 6)
    assert [row[2].strip() for row in table[2:4]] == ['3', '6']


def test_evaluate():
    table = last_lines('evaluate', '--images', 2, '--size', 200, '--cells', 20, '--detections', 30)
    assert [row[1].strip() for row in table[2:]] == ['CellMetric', 'CocoMetric, segm']


@pytest.mark.parametrize('head', ['rois', 'rtmdet', 'solov2'])
def test_mask_output(head):
    arguments = ('--shape', 200, 160, '--detections', 20, '--heads', head, '--stock', '--repeats', 1)
    table = last_lines('mask_output', *arguments)
    assert len(table[3:]) == 2


def test_export():
    table = last_lines('export', '--size', 400, '--cells', 20, '--naive-cells', 2)
    assert [row[1].strip() for row in table[2:]] == ['ours', 'ours', 'naive', 'regionprops']


def test_convert():
    table = last_lines('convert', '--images', 4, '--cells', 40, '--largest', 128)  # fails if annotations differ
    assert [row[1].strip() for row in table[2:]] == ['loop over instances', 'ours, in one process', 'ours']


@pytest.mark.slow
def test_precision():
    result = run_script(ROOT / 'benchmarks/precision.py', ROOT / 'data/samples/purple_038.png', folder=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    row = next(line for line in result.stdout.splitlines() if line.startswith('| purple_038.png'))
    equal, shared = map(float, row.split('|')[-3:-1])
    assert 0.98 < equal <= 1 and 0.9 < shared <= 1


@pytest.mark.slow
def test_tta():
    table = last_lines('tta', '--size', 96, '--repeats', 1)
    assert [row[1].strip() for row in table[3:]] == ['plain', '2 views', '8 views']


@pytest.mark.slow
def test_model():
    table = last_lines('model', '--size', 96, '--cells', 4, '--repeats', 1)
    parameters = {row[1].strip(): int(row[2].replace(',', '')) for row in table[3:]}
    assert parameters['stock'] == parameters['maskrcnn_r50_fpn'] == parameters['maskrcnn_r50_fpn_cbam'] - 700_800


@pytest.mark.slow
def test_other_tissue(tmp_path):
    for path in (ROOT / 'data/samples').glob('purple_038*'):
        shutil.copy(path, tmp_path)
    done = run_script(ROOT / 'benchmarks/other_tissue.py', 'nuclei-lite0', '--images', tmp_path, folder=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith('|')]
    header, _, row = ([cell.strip() for cell in line.split('|')[1:-1]] for line in lines)
    assert header == ['model', 'purple (1)', 'all'] and row[0] == 'nuclei-lite0'
    assert float(row[1]) == float(row[2]) > 0.4
