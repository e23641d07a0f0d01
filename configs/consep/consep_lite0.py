# CoNSeP for the detector with ImageNet weights: quarter turns, no crop but the window, and a longer schedule.
_base_ = './consep_cpu.py'

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
train_dataloader = dict(batch_size=8, dataset=dict(dataset=dict(pipeline=train_pipeline)))

train_cfg = dict(max_epochs=30, val_interval=10)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(weight_decay=0.02))
# Checkpoints hold the mean of the weights over some hundred steps, BatchNorm's statistics included.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.002, gamma=200, update_buffers=True),
]
