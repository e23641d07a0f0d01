# PointRend (Kirillov et al., CVPR 2020): masks refined at their uncertain points.
_base_ = './zoo.py'

from mmengine.hub import get_config  # noqa: E402

model = get_config('mmdet::point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py').model
model.data_preprocessor = _base_.preprocessor
model.backbone = _base_.resnet50  # not Caffe's, whose input is BGR
model.roi_head.mask_head.type = 'RLECoarseMaskHead'
model.test_cfg.rcnn.max_per_img = _base_.most_cells
