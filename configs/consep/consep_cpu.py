# CoNSeP for CPU cores: windows of 128 px, which show ten cells on average, and numbers of candidates, proposals and RoI
# samples that fit them.
_base_ = './consep.py'

consep_model = dict(
    train_cfg=dict(rpn_proposal=dict(nms_pre=400, max_per_img=200), rcnn=dict(sampler=dict(num=96))),
)
train_pipeline = [dict(step, size=128) if step['type'] == 'RandomWindow' else step for step in _base_.train_pipeline]
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(times=32, dataset=dict(pipeline=train_pipeline)))
val_dataloader = test_dataloader = dict(num_workers=1)

train_cfg = dict(max_epochs=5, val_interval=2)
auto_scale_lr = dict(base_batch_size=4)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
