import json

import pytest

from cellseg_mm.utils import UserError
from cellseg_mm.visualization import plot_curves, read_scalars


def write_log(work_dir, stamp, lines):
    folder = work_dir / stamp / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(json.dumps(line) for line in lines))


def test_means_over_an_epoch_and_a_resumed_log(tmp_path):
    write_log(
        tmp_path,
        '20260101_000000',
        [
            dict(loss=4.0, lr=0.1, epoch=1, iter=10, step=10),
            dict(loss=2.0, lr=0.1, epoch=1, iter=20, step=20),
            {'coco/segm_mAP_50': 0.5, 'step': 1},
            dict(loss=9.0, lr=0.1, epoch=2, iter=30, step=30),
        ],
    )
    write_log(tmp_path, '20260102_000000', [dict(loss=1.0, lr=0.05, epoch=2, iter=30, step=30)])
    train, val = read_scalars(tmp_path)
    assert train['loss'] == {1: 3.0, 2: 1.0} and train['lr'] == {1: 0.1, 2: 0.05}
    assert val['coco/segm_mAP_50'] == {1: 0.5}
    figure = plot_curves(train, val)
    assert list(figure.axes[0].lines[0].get_ydata()) == [3.0, 1.0]
    assert list(figure.axes[2].lines[0].get_ydata()) == [0.5]


def test_no_log(tmp_path):
    with pytest.raises(UserError, match=r'give the work dir of a tools/train\.py run'):
        read_scalars(tmp_path)
