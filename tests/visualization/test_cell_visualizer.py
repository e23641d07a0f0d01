import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from cellseg_mm.visualization import CellVisualizer


def test_ground_truth_left_predictions_right(tmp_path):
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[0, 10:30, 10:30] = 1
    sample = DetDataSample()
    sample.gt_instances = InstanceData(labels=torch.tensor([1]), masks=BitmapMasks(mask, 64, 64))
    sample.pred_instances = InstanceData(
        labels=torch.tensor([1, 0]),
        scores=torch.tensor([0.9, 0.1]),
        masks=torch.from_numpy(np.repeat(mask, 2, 0)).bool(),
    )
    visualizer = CellVisualizer(vis_backends=None)
    visualizer.dataset_meta = dict(classes=('a', 'b'), palette=[(255, 0, 0), (0, 0, 255)])
    out = tmp_path / 'drawn.png'
    visualizer.add_datasample('x', np.zeros((64, 64, 3), np.uint8), sample, out_file=str(out), pred_score_thr=0.5)
    drawn = cv2.imread(str(out))[..., ::-1][:512]
    assert drawn.shape[1] == 2 * 512
    for half in (drawn[:, :512], drawn[:, 512:]):
        assert (half == (0, 0, 255)).all(axis=2).any()  # class b, outlined
        assert not (half == (255, 0, 0)).all(axis=2).any()  # class a only below the threshold


def test_no_instances():
    visualizer = CellVisualizer(vis_backends=None)
    instances = InstanceData(
        labels=torch.zeros(0, dtype=torch.long), scores=torch.zeros(0), masks=torch.zeros(0, 32, 48)
    )
    drawn = visualizer._draw_instances(np.zeros((32, 48, 3), np.uint8), instances, ['a'], None)
    assert drawn.shape[1] == 48 * 16
    drawn = visualizer._draw_instances(np.zeros((32, 480, 3), np.uint8), instances[:0], ['a'], None)
    assert drawn.shape[1] == 960  # a long image is not blown up beyond 1024 px
