# The last phase of training: windows of four times the area, two a step, which cut fewer cells at their borders.
_base_ = './consep_lite0.py'

consep_model = dict(
    train_cfg=dict(rpn_proposal=dict(nms_pre=1200, max_per_img=600), rcnn=dict(sampler=dict(num=320))),
)
train_pipeline = [dict(step, size=256) if step['type'] == 'RandomWindow' else step for step in _base_.train_pipeline]
train_dataloader = dict(batch_size=2, dataset=dict(times=8, dataset=dict(pipeline=train_pipeline)))

train_cfg = dict(max_epochs=20, val_interval=5)
auto_scale_lr = dict(base_batch_size=2)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=40),
    dict(type='CosineAnnealingLR', eta_min=5e-6, by_epoch=True, convert_to_iter_based=True),
]
# the statistics of two windows are not those of all images
custom_hooks = [*_base_.custom_hooks, dict(type='FreezeBatchNormHook')]
