# What CoNSeP needs: 41 images of 1000x1000 px with 20 to 2,283 small cells each. The rows beside this file are a model
# and this preset, or one of its children for CPU cores.
_base_ = '../_base_/default_preset.py'

data_root = 'data/consep/'

# The median cell's box is 18 px wide. Doubled, in training and in testing, it spans 9 px of the stride-4 map, not 4.
# On the doubled image the rows' anchors are 16 to 362 px, two an octave: no anchor fits 0.1 % of the 12,536 training
# cells (best IoU below 0.3; 1 % in the single-level row, at stride 16), and 76 % have one of IoU 0.7 (30 %). With one
# an octave 40 % have (17 %).
resize = dict(type='Resize', scale=(2000, 2000), keep_ratio=True)  # of 1000x1000 px

# For the model of a row, which takes from these two what fits it.
# From scratch, because ImageNet weights may be missing offline: nothing is frozen, BatchNorm trains. Its statistics
# come from 8 windows a step; GroupNorm is for batches of 1 or 2 a device and slower (Wu and He, ECCV 2018).
from_scratch = dict(init_cfg=None, frozen_stages=-1, norm_eval=False)
consep_model = dict(
    # a window has 40 cells on average
    train_cfg=dict(rcnn=dict(sampler=dict(num=256))),
    # the dense preset: room for 2,283 cells an image
    test_cfg=dict(
        # for each level: the single level of the first row must hold as many as the five of the others
        rpn=dict(nms_pre=12000, max_per_img=4000),
        # One cell, one class: NMS across the classes. From split_thr boxes on mmcv still goes class by class, and four
        # classes of 4,000 proposals would exceed its default of 10,000.
        rcnn=dict(max_per_img=3000, nms=dict(class_agnostic=True, split_thr=100_000)),
    ),
)

# Table 1 of the course report on the whole image, of which a window is kept before its pixels are processed
train_pipeline = [
    # the images are few and large: each worker keeps their pixels
    dict(type='LoadRecentImage', keep=32),
    dict(type='LoadCellAnnotations', keep=32),
    *_base_.geometric,
    dict(type='RandomWindow', size=256),
    dict(type='ApplyAffine', min_visible=0.1),
    *_base_.photometric,
    dict(type='Resize', scale_factor=2.0, keep_ratio=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.test_pipeline]
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    batch_sampler=None,  # all windows have one shape: no need to group images by shape
    dataset=dict(
        _delete_=True,
        type='RedrawDataset',
        times=64,  # windows of each image an epoch
        dataset=dict(_base_.train_dataloader.dataset, pipeline=train_pipeline),
    ),
)
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

train_cfg = dict(max_epochs=30, val_interval=5)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    # until the last epoch, however many train_cfg says
    dict(type='CosineAnnealingLR', eta_min=5e-6, by_epoch=True, convert_to_iter_based=True),
]
