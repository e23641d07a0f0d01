"""The benchmarks at sizes of seconds: they run, and end with their two ratios."""

import shutil

import pytest
from conftest import ROOT, read_json
from processes import run_script

from cellseg_mm.datasets import make_sample_data, prepare


def run_benchmark(name, *arguments):
    done = run_script(ROOT / f'benchmarks/{name}.py', *arguments, folder=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def last_lines(name, *arguments):
    *table, memory, ratio = run_benchmark(name, *arguments)
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
    done = run_benchmark('other_tissue', 'nuclei-lite0', '--images', tmp_path)
    lines = [line for line in done if line.startswith('|')]
    header, _, row = ([cell.strip() for cell in line.split('|')[1:-1]] for line in lines)
    assert header == ['model', 'purple (1)', 'all'] and row[0] == 'nuclei-lite0'
    assert float(row[1]) == float(row[2]) > 0.4


@pytest.mark.slow
def test_teach(tmp_path):
    samples = [ROOT / f'data/samples/{name}.png' for name in ('purple_007', 'white_100')]
    *_, row, last = run_benchmark('teach', *samples, '--cells', 30, '--pictures', tmp_path)
    assert row.split('|')[1].strip() == '30' and float(last.removeprefix('seconds ')) > 0
    assert {path.name for path in tmp_path.iterdir()} == {
        f'teach_{part}.jpg' for part in ('correct', 'outcome', 'next')
    }


@pytest.mark.slow
def test_few_shot(tmp_path):
    make_sample_data(tmp_path / 'drawn', num_images=8, size=128, seed=0)
    prepare(tmp_path / 'drawn', tmp_path / 'set', workers=1, val_fraction=0.5)
    images = len(read_json(tmp_path / 'set/annotations/train.json')['images'])
    out, plot = tmp_path / 'few_shot.json', tmp_path / 'few_shot.png'
    data = ('--data', tmp_path / 'set', '--split', 'val', '--out', out, '--plot', plot)
    lines = run_benchmark('few_shot', *data, '--images', 2, images, '--seeds', 0, 1)
    table = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines if line.startswith('|')]
    assert [row[1:3] for row in table[2:]] == [['2', '2'], [str(images), '1']]  # all images: every seed draws the same
    for row in table[2:]:
        mpq, low, high = map(float, row[3:6])
        assert 0 <= low <= mpq <= high <= 1
    kept = read_json(out)
    assert [(entry['images'], entry['seed']) for entry in kept] == [(2, 0), (2, 1), (images, 0)]
    assert plot.stat().st_size > 5000
