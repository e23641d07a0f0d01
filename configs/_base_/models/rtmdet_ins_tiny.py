# RTMDet-Ins-tiny (Lyu et al., 2022): one stage, no anchors, masks by dynamic convolutions.
_base_ = './zoo.py'

from mmengine.hub import get_config  # noqa: E402

model = get_config('mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py').model
model.data_preprocessor = _base_.preprocessor
model.bbox_head.type = 'RLERTMDetInsSepBNHead'
for part in ('backbone', 'neck', 'bbox_head'):
    model[part].norm_cfg = dict(type='BN')  # SyncBN needs a GPU
model.test_cfg.update(nms_pre=3 * _base_.most_cells, max_per_img=_base_.most_cells)
