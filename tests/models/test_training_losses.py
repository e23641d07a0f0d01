"""Our masks, assigner, NMS and RoIAlign against the stock ones in a whole detector."""

import numpy as np
import pytest
import torch
from conftest import ROOT, build_dataset
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from cellseg_mm.structures import InstanceMapMasks

LOADING = {
    'SparseMaxIoUAssigner': dict(type='LoadCellAnnotations'),
    'MaxIoUAssigner': dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
}
NMS = {'SparseMaxIoUAssigner': 'sparse_nms', 'MaxIoUAssigner': 'nms'}
ROI_LAYERS = {'SparseMaxIoUAssigner': 'SparseRoIAlign', 'MaxIoUAssigner': 'RoIAlign'}


def losses(config: str, prepared, assigner: str) -> dict:
    """Of two images, one of them without a cell, with all parts ours or stock."""
    cfg = Config.fromfile(ROOT / config).model
    cfg.backbone.init_cfg = None
    stages = (cfg.train_cfg.rpn, cfg.train_cfg.rcnn)
    assert all(stage.assigner.type == 'SparseMaxIoUAssigner' for stage in stages)  # the default
    for stage in stages:
        stage.assigner.type = assigner
    assert cfg.train_cfg.rpn_proposal.nms.type == 'sparse_nms'  # the default
    cfg.train_cfg.rpn_proposal.nms.type = NMS[assigner]
    for extractor in (cfg.roi_head.bbox_roi_extractor, cfg.roi_head.mask_roi_extractor):
        assert extractor.roi_layer.type == 'SparseRoIAlign'  # the default
        extractor.roi_layer.type = ROI_LAYERS[assigner]
    dataset = build_dataset(prepared, [dict(type='LoadImageFromFile'), LOADING[assigner], dict(type='PackDetInputs')])
    samples = [dataset[index] for index in range(2)]
    assert sorted(len(sample['data_samples'].gt_instances) > 0 for sample in samples) == [False, True]
    torch.manual_seed(0)
    model = MODELS.build(cfg).train()
    batch = {key: [sample[key] for sample in samples] for key in samples[0]}
    return model.parse_losses(model(**model.data_preprocessor(batch, training=True), mode='loss'))[1]


def test_nothing_is_learned_from_an_ignored_image():
    """Not by the proposals either; without the region the same image is background."""
    cfg = Config.fromfile(ROOT / 'configs/demo/maskrcnn_r18_fpn.py').model
    cfg.backbone.init_cfg = None
    cfg.data_preprocessor.update(mean=[127.5] * 3, std=[73.9] * 3)
    torch.manual_seed(0)
    model = MODELS.build(cfg).train()
    none, everywhere = (InstanceMapMasks(np.full((1, 64, 64), value, np.uint16)) for value in (0, 1))
    parts = []
    for masks in (none, everywhere):
        sample = DetDataSample(metainfo=dict(img_shape=(64, 64)))
        sample.gt_instances, sample.ignored_instances = (
            InstanceData(bboxes=found.get_bboxes('hbox'), labels=torch.zeros(len(found)).long(), masks=found)
            for found in (none, masks)
        )
        batch = dict(inputs=[torch.zeros(3, 64, 64, dtype=torch.uint8)], data_samples=[sample])
        parts.append(model.parse_losses(model(**model.data_preprocessor(batch, training=True), mode='loss'))[1])
    background, ignored = parts
    assert background['loss_rpn_cls'] > 0 and background['loss_cls'] > 0
    assert ignored['loss'] == 0


@pytest.mark.parametrize('config', ['configs/demo/maskrcnn_r18_fpn.py', 'configs/demo/maskrcnn_r18.py'])
def test_losses_equal_stock(config, prepared):
    ours, stock = (losses(config, prepared, assigner) for assigner in LOADING)
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-5)
    assert ours['loss'] > 0
