# What lets a small model train on two CPU cores in minutes: input and schedule. The rows beside this file are a model
# and this preset; they train from scratch.
_base_ = '../_base_/default_preset.py'

resize = dict(type='Resize', scale=(512, 256), keep_ratio=True)  # drawn images and long ones at their own size
train_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.train_pipeline]
test_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.test_pipeline]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))

train_cfg = dict(max_epochs=15, val_interval=3)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=5e-6, by_epoch=True, convert_to_iter_based=True),
]
