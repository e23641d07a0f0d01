# + FPN. The same anchor sizes and heads, over five levels.
_base_ = './maskrcnn_r50.py'

ablation_variable = ['model.backbone', 'model.neck', 'model.rpn_head.anchor_generator']
ablation_variable += ['model.roi_head.bbox_roi_extractor', 'model.roi_head.mask_roi_extractor']

model = dict(
    backbone=dict(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), out_indices=(0, 1, 2, 3)),
    neck=dict(_delete_=True, type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
    rpn_head=dict(anchor_generator=dict(scales=[8], strides=[4, 8, 16, 32, 64])),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[4, 8, 16, 32]),
        mask_roi_extractor=dict(featmap_strides=[4, 8, 16, 32]),
    ),
)
