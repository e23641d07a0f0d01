# Mask Scoring R-CNN (Huang et al., CVPR 2019): a head predicts the IoU of each mask, which multiplies its score.
_base_ = './zoo.py'

from mmengine.hub import get_config  # noqa: E402

model = get_config('mmdet::ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py').model
model.data_preprocessor = _base_.preprocessor
model.backbone = _base_.resnet50
model.roi_head.mask_head.type = 'RLEMaskHead'
model.test_cfg.rcnn.max_per_img = _base_.most_cells
