import json

import pytest

from cellseg_mm.utils import UserError
from cellseg_mm.visualization import plot_curves, read_scalars


def write_log(work_dir, stamp, lines):
    folder = work_dir / stamp / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(json.dumps(line) for line in lines))


@pytest.fixture
def work_dir(tmp_path):
    """A run that was resumed after its first epoch."""
    first = [
        dict(loss=4.0, loss_cls=1.0, lr=0.1, memory=700, epoch=1, iter=10, step=10),
        dict(loss=2.0, loss_cls=0.5, lr=0.1, memory=900, epoch=1, iter=20, step=20),
        {'val/loss': 3.5, 'val/loss_cls': 0.7, 'step': 1},
        {'cells/segm_AP50_max1000': 0.5, 'cells/PQ': 0.3, 'step': 1},
        dict(loss=9.0, loss_cls=9.0, lr=0.1, epoch=2, iter=30, step=30),
    ]
    write_log(tmp_path, '20260101_000000', first)
    second = [dict(loss=1.0, loss_cls=0.2, lr=0.05, epoch=2, iter=30, step=30), {'val/loss': 2.5, 'step': 2}]
    write_log(tmp_path, '20260102_000000', second)
    return tmp_path


def lines_of(axes):
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines}


def test_means_over_an_epoch_and_a_resumed_log(work_dir):
    train, val = read_scalars(work_dir)
    assert train['loss'] == {1: 3.0, 2: 1.0} and train['lr'] == {1: 0.1, 2: 0.05}
    assert train['memory'] == {1: 900}  # a peak
    assert val['val/loss'] == {1: 3.5, 2: 2.5} and val['cells/segm_AP50_max1000'] == {1: 0.5}


def test_a_new_run_in_the_same_place_stands_alone(work_dir):
    write_log(
        work_dir, '20260103_000000', [dict(loss=7.0, lr=0.1, epoch=1, iter=10, step=10), {'val/loss': 6.0, 'step': 1}]
    )
    train, val = read_scalars(work_dir)
    assert train['loss'] == {1: 7.0} and val == {'val/loss': {1: 6.0}, 'step': {1: 1}}


def test_training_and_validation_loss_are_in_one_picture(work_dir):
    losses, parts, metrics, _ = plot_curves({'run': read_scalars(work_dir)}).axes
    assert lines_of(losses) == {'training': [3.0, 1.0], 'validation': [3.5, 2.5]}
    assert lines_of(metrics) == {'segm_AP50_max1000': [0.5], 'PQ': [0.3]}
    assert lines_of(parts)['loss_cls'] == [0.75, 0.2]


def test_several_runs_share_the_pictures(work_dir):
    scalars = read_scalars(work_dir)
    losses, metrics = plot_curves({'a': scalars, 'b': scalars}).axes
    assert list(lines_of(losses)) == ['a: training', 'a: validation', 'b: training', 'b: validation']
    assert list(lines_of(metrics)) == [f'{run}: {name}' for run in 'ab' for name in ('segm_AP50_max1000', 'PQ')]
    colors = [line.get_color() for line in losses.lines]
    assert colors[0] == colors[1] != colors[2] == colors[3]


def test_a_line_that_a_killed_run_left_half_written(work_dir):
    log = work_dir / '20260102_000000/vis_data/scalars.json'
    whole = log.read_text()
    before = read_scalars(work_dir)
    log.write_text(whole + '\n{"loss": 7.0, "ep')
    assert read_scalars(work_dir) == before
    log.write_text('{"loss": 7.0, "ep\n' + whole)
    with pytest.raises(UserError, match=r'scalars\.json: line 1 is not valid JSON'):
        read_scalars(work_dir)


def test_no_log(tmp_path):
    with pytest.raises(UserError, match=r'give the work dir of a tools/train\.py run'):
        read_scalars(tmp_path)
