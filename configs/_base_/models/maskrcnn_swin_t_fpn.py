# Mask R-CNN with a Swin transformer (Liu et al., ICCV 2021), tiny, as backbone.
_base_ = './maskrcnn_r50_fpn.py'

from mmengine.hub import get_config  # noqa: E402

stock = get_config('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py').model
model = dict(backbone=dict(stock.backbone, _delete_=True), neck=dict(in_channels=stock.neck.in_channels))
del stock
