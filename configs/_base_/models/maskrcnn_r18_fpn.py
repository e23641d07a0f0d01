# + FPN, as in maskrcnn_r50_fpn.py, for the channels of depth 18 and anchors of 16 px and up.
_base_ = './maskrcnn_r18.py'

ablation_variable = ['model.backbone', 'model.neck', 'model.rpn_head.anchor_generator']
ablation_variable += ['model.roi_head.bbox_roi_extractor', 'model.roi_head.mask_roi_extractor']

model = dict(
    backbone=dict(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), out_indices=(0, 1, 2, 3)),
    neck=dict(_delete_=True, type='FPN', in_channels=[64, 128, 256, 512], out_channels=_base_.channels, num_outs=5),
    rpn_head=dict(anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32, 64])),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[4, 8, 16, 32]),
        mask_roi_extractor=dict(featmap_strides=[4, 8, 16, 32]),
    ),
)
