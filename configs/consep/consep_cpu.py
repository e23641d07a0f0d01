# CoNSeP for CPU cores: windows of 128 px, which show ten cells on average, quarter turns, no crop but the window, and
# weights that are means.
_base_ = './consep.py'

consep_model = dict(train_cfg=dict(rcnn=dict(sampler=dict(num=128))))
geometric = [
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(type='RandomQuarterTurn'),
    dict(type='RandomRotation', max_angle=15, prob=0.4),
    dict(type='RandomZoom', scale_range=(0.85, 1.15), prob=0.3),
]
train_pipeline = [
    dict(type='LoadRecentImage', keep=32),
    dict(type='LoadCellAnnotations', keep=32),
    *geometric,
    dict(type='RandomWindow', size=128),
    dict(type='ApplyAffine', min_visible=0.1),
    *_base_.photometric,
    dict(type='Resize', scale_factor=2.0, keep_ratio=True),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(num_workers=1, dataset=dict(times=32, dataset=dict(pipeline=train_pipeline)))
val_dataloader = test_dataloader = dict(num_workers=1)

train_cfg = dict(max_epochs=30, val_interval=10)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.02))
# Checkpoints hold the mean of the weights over some hundred steps, BatchNorm's statistics included.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.002, gamma=200, update_buffers=True),
]
