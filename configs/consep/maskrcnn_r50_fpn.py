# Row 2 of the ablation on CoNSeP.
_base_ = ['../maskrcnn_r50_fpn.py', './consep.py']

data_root = 'data/consep/'
model = dict(_base_.consep_model, rpn_head=dict(anchor_generator=dict(scales=[4, 4 * 2**0.5])))
train_pipeline = _base_.consep_train_pipeline
test_pipeline = _base_.consep_test_pipeline
train_dataloader = dict(
    _base_.consep_loader,
    dataset=dict(_base_.consep_windows, dataset=dict(_base_.train_dataloader.dataset, pipeline=train_pipeline)),
)
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
train_cfg = _base_.consep_loop
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = _base_.consep_optim
param_scheduler = _base_.consep_scheduler
