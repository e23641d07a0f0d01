# The same detector at depth 18 with narrow heads: small enough to train from scratch on CPU cores.
_base_ = './maskrcnn_r50.py'

channels = 128
model = dict(
    # from scratch, with nothing frozen: the ImageNet weights are a ResNet-50's
    backbone=dict(depth=18, init_cfg=None, frozen_stages=-1, norm_eval=False),
    neck=dict(in_channels=[512], out_channels=channels),
    # 16 px and up
    rpn_head=dict(in_channels=channels, feat_channels=channels, anchor_generator=dict(scales=[1, 2, 4, 8, 16])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels, finest_scale=28),
        bbox_head=dict(in_channels=channels, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=channels, finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=channels, conv_out_channels=channels),
    ),
    train_cfg=dict(rcnn=dict(sampler=dict(num=128))),
)
