# What CoNSeP needs: 41 images of 1000x1000 px with 20 to 2,283 small cells each. No config of its own; the rows beside
# this file take these values, so that they stay alike.

# The median cell's box is 17 px wide. Doubled, in training and in testing, it spans 9 px of the stride-4 map, not 4.
# On the doubled image the rows' anchors are 16 to 362 px, two an octave: no anchor fits 0.1 % of the 12,536 training
# cells (best IoU below 0.3; 1 % in the single-level row, at stride 16), and 76 % have one of IoU 0.7 (30 %). With one
# an octave 40 % have (17 %).

consep_model = dict(
    # From scratch, for ImageNet weights may not be at hand offline: nothing is frozen, BatchNorm trains. Its statistics
    # come from 8 windows a step; GroupNorm is for batches of 1 or 2 a device and slower (Wu and He, ECCV 2018).
    backbone=dict(init_cfg=None, frozen_stages=-1, norm_eval=False),
    # a window has 40 cells on average
    train_cfg=dict(rcnn=dict(sampler=dict(num=256))),
    # the dense preset: room for 2,283 cells an image
    test_cfg=dict(
        # of each level: the one of the first row has to do for the five of the others
        rpn=dict(nms_pre=12000, max_per_img=4000),
        # One cell, one class: NMS across the classes. From split_thr boxes on mmcv goes class by class all the same,
        # and with its 10,000 four classes of 4,000 proposals would pass it.
        rcnn=dict(max_per_img=3000, nms=dict(class_agnostic=True, split_thr=100_000)),
    ),
)

# For windows of 128 px, which show ten cells on average: candidates of a level, proposals and RoI samples to fit.
small_window_train_cfg = dict(rpn_proposal=dict(nms_pre=400, max_per_img=200), rcnn=dict(sampler=dict(num=96)))

# Table 1 of the report on the whole image, of which a window is kept before its pixels are worked on
consep_train_pipeline = [
    # the images are few and large: each worker keeps their pixels
    dict(type='LoadRecentImage', keep=32),
    dict(type='LoadCellAnnotations', keep=32),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomFlip', prob=0.3, direction='vertical'),
    dict(type='RandomRotation', max_angle=15, prob=0.4),
    dict(type='RandomZoom', scale_range=(0.85, 1.15), prob=0.3),
    dict(type='RandomResizedCrop', area_range=(0.8, 1.0), aspect_range=(0.9, 1.1), prob=0.3),
    dict(type='RandomWindow', size=256),
    dict(type='ApplyAffine', min_visible=0.1),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, hue=0.15, prob=1.0),
    dict(type='RandomGaussianNoise', std=0.02, prob=0.2),
    dict(type='RandomGaussianBlur', kernel_size=3, sigma_range=(0.1, 1.0), prob=0.2),
    dict(type='RandomGamma', gamma_range=(0.8, 1.2), prob=0.3),
    dict(type='Resize', scale_factor=2.0, keep_ratio=True),
    dict(type='PackDetInputs'),
]
consep_test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2000, 2000), keep_ratio=True),  # of 1000x1000 px
    dict(type='LoadCellAnnotations'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
consep_windows = dict(_delete_=True, type='RedrawDataset', times=64)  # of each image an epoch
# windows are all of one shape: no need to look for images of like shape
consep_loader = dict(batch_size=8, num_workers=8, batch_sampler=None)

consep_loop = dict(max_epochs=30, val_interval=5)
consep_optim = dict(optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=10))
consep_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    # to the last epoch, however many train_cfg says
    dict(type='CosineAnnealingLR', eta_min=5e-6, by_epoch=True, convert_to_iter_based=True),
]
