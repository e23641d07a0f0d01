# Cascade Mask R-CNN at depth 18 with narrow heads: small enough to train from scratch on CPU cores.
_base_ = './cascade_mask_rcnn_r50_fpn.py'

channels = 128
rois = dict(out_channels=channels, finest_scale=28)
heads = [dict(head, in_channels=channels, fc_out_channels=256) for head in _base_.model.roi_head.bbox_head]
model = dict(
    backbone=dict(depth=18, init_cfg=None, frozen_stages=-1, norm_eval=False),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=channels),
    # 16 px and up
    rpn_head=dict(in_channels=channels, feat_channels=channels, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=rois,
        bbox_head=heads,
        mask_roi_extractor=rois,
        mask_head=dict(num_convs=2, in_channels=channels, conv_out_channels=channels),
    ),
    train_cfg=dict(
        rcnn=[dict(stage, sampler=dict(stage['sampler'], num=64)) for stage in _base_.model.train_cfg.rcnn],
    ),
)
