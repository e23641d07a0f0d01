# The demo's small detector on CoNSeP, for two CPU cores and half an hour: does all of it work, before a GPU is used?
_base_ = ['../demo/maskrcnn_r18_fpn_cbam.py', './consep.py']

data_root = 'data/consep/'
model = dict(_base_.consep_model, rpn_head=dict(anchor_generator=dict(scales=[4, 4 * 2**0.5])))
model['train_cfg'] = _base_.small_window_train_cfg
train_pipeline = [
    dict(step, size=128) if step['type'] == 'RandomWindow' else step for step in _base_.consep_train_pipeline
]
test_pipeline = _base_.consep_test_pipeline
train_dataloader = dict(
    _base_.consep_loader,
    dataset=dict(_base_.consep_windows, dataset=dict(_base_.train_dataloader.dataset, pipeline=train_pipeline)),
)
train_dataloader['batch_size'] = 4
train_dataloader['num_workers'] = 1
train_dataloader['dataset']['times'] = 32
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=5, val_interval=2)
auto_scale_lr = dict(base_batch_size=4)
param_scheduler = _base_.consep_scheduler
