"""Every config of the zoo from training to files, on drawn cells. The models are whole, the images small."""

import cv2
import pytest
from conftest import ROOT, read_json, write_tiny_config
from mmengine.config import Config
from tiny_detector import draw

from cellseg_mm import CellInferencer
from cellseg_mm.app import choose, segment
from cellseg_mm.models.detector_config import most_instances, score_floors
from cellseg_mm.utils.config import flatten

ZOO = sorted(path.stem for path in ROOT.glob('configs/zoo/*.py'))
QUICK = ('rtmdet_ins_tiny', 'maskrcnn_swin_t_fpn')  # in `make test`; the others are long tests
PARAMETERS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ZOO]
FEW = 15  # cells of an image


def run(tool, *arguments):
    status, printed, errors = tool(*arguments)
    assert status in (0, None), errors[-3000:]
    return printed


@pytest.mark.parametrize('name', PARAMETERS)
def test_from_training_to_files(name, prepared, run_here, tmp_path):
    config = write_tiny_config(tmp_path / 'tiny.py', times=1, base=f'zoo/{name}')
    # random weights find no mask that is sure, and as many as they may
    changes = dict(max_per_img=FEW, max_per_image=FEW, mask_thr_binary=0.2, mask_thr=0.2)
    test_cfg = dict(flatten(Config.fromfile(config).model.test_cfg))
    found = {key: key.rsplit('.', 1)[-1] for key in test_cfg if not key.startswith('rpn.')}
    options = [f'model.test_cfg.{key}={changes[name]}' for key, name in found.items() if name in changes]
    options += [f'data_root={prepared}', 'default_hooks.checkpoint.save_optimizer=False']
    options += ['train_dataloader.dataset.dataset.indices=4', 'val_dataloader.dataset.indices=2']
    work_dir = tmp_path / 'run'
    run(run_here, 'train', config, '--from-scratch', '--work-dir', work_dir, '--cfg-options', *options)
    checkpoint = work_dir / 'epoch_1.pth'
    options = [f'data_root={prepared}', 'test_dataloader.dataset.indices=2', 'test_dataloader.num_workers=0']
    options += ['test_dataloader.persistent_workers=False']
    run(run_here, 'test', checkpoint, '--out', work_dir / 'predictions.json', '--cfg-options', *options)
    metrics = read_json(work_dir / 'test_metrics.json')
    assert {'cells/PQ', 'cells/segm_AP50_max1000', 'cells/bbox_mAP_max1000'} <= metrics.keys()
    run(run_here, 'report', work_dir)
    assert (work_dir / 'report.html').stat().st_size > 10_000

    image, out = tmp_path / 'image.png', tmp_path / 'out'
    cv2.imwrite(str(image), draw(0, 150, 130)[..., ::-1])
    arguments = [checkpoint, image, '--formats', 'coco,csv', '--score-thr', 0]
    run(run_here, 'predict', *arguments, '--no-tile', '--out', out / 'fitted')
    run(run_here, 'predict', *arguments, '--tile', '--tile-size', 96, '--out', out / 'tiled')
    counts = [len(read_json(out / kind / 'image_coco.json')['annotations']) for kind in ('fitted', 'tiled')]
    assert 0 < counts[0] <= FEW and counts[1]

    detector = CellInferencer(str(checkpoint), score_thr=0.0)
    assert detector.max_cells == FEW == most_instances(dict(test_cfg=detector._model.test_cfg))
    assert all(value < 0 for value in score_floors(dict(test_cfg=detector._model.test_cfg)).values())
    found = segment(str(image), detector, tmp_path)  # as the app does
    assert len(choose(found.cells, range(len(detector.classes)), 0)) == counts[0]
    checkpoint.unlink()  # hundreds of MB, as the best one is
    for path in work_dir.glob('best_*.pth'):
        path.unlink()
