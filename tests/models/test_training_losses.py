"""Our masks and assigner against stock mmdet's in a whole detector."""

import pytest
import torch
from conftest import ROOT, build_dataset
from mmdet.registry import MODELS
from mmengine.config import Config

LOADING = {
    'SparseMaxIoUAssigner': dict(type='LoadCellAnnotations'),
    'MaxIoUAssigner': dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
}


def losses(config: str, prepared, assigner: str) -> dict:
    """Of two images, one of them without a cell, with masks loaded our way or stock mmdet's."""
    cfg = Config.fromfile(ROOT / config).model
    cfg.backbone.init_cfg = None
    stages = (cfg.train_cfg.rpn, cfg.train_cfg.rcnn)
    assert all(stage.assigner.type == 'SparseMaxIoUAssigner' for stage in stages)  # the default
    for stage in stages:
        stage.assigner.type = assigner
    dataset = build_dataset(prepared, [dict(type='LoadImageFromFile'), LOADING[assigner], dict(type='PackDetInputs')])
    samples = [dataset[index] for index in range(2)]
    assert sorted(len(sample['data_samples'].gt_instances) > 0 for sample in samples) == [False, True]
    torch.manual_seed(0)
    model = MODELS.build(cfg).train()
    batch = {key: [sample[key] for sample in samples] for key in samples[0]}
    return model.parse_losses(model(**model.data_preprocessor(batch, training=True), mode='loss'))[1]


@pytest.mark.parametrize('config', ['configs/demo/maskrcnn_r18_fpn.py', 'configs/demo/maskrcnn_r18.py'])
def test_losses_equal_stock(config, prepared):
    ours, stock = (losses(config, prepared, assigner) for assigner in LOADING)
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-5)
    assert ours['loss'] > 0
