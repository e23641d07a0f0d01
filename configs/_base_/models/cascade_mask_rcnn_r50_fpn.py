# Cascade Mask R-CNN (Cai and Vasconcelos, 2018): three heads in a row, each for boxes of a higher IoU.
_base_ = './zoo.py'

from mmengine.hub import get_config  # noqa: E402

model = get_config('mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py').model
model.data_preprocessor = _base_.preprocessor
model.backbone = _base_.resnet50
model.roi_head.mask_head.type = 'RLEMaskHead'
model.test_cfg.rcnn.max_per_img = _base_.most_cells
