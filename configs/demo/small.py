# What makes a row of the ablation small enough to train from scratch on two CPU cores in minutes: the input, the heads
# and the schedule. No config of its own; the rows beside this file take these values.
small_image_size = (512, 256)  # drawn images and long ones at their own size

small_model = dict(
    # from scratch, with nothing frozen: the rows' ImageNet weights are of a ResNet-50
    backbone=dict(init_cfg=None, frozen_stages=-1, norm_eval=False),
    neck=dict(out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128, finest_scale=28),
        bbox_head=dict(in_channels=128, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=128, finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=128, conv_out_channels=128),
    ),
    train_cfg=dict(rcnn=dict(sampler=dict(num=128))),
)
small_loop = dict(max_epochs=15, val_interval=3)
small_optim = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=10))
small_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=5e-6, by_epoch=True, convert_to_iter_based=True),
]
