_base_ = ['../maskrcnn_r50_fpn_cbam.py', './small.py']

model = dict(_base_.small_model, backbone=dict(_base_.small_model['backbone'], depth=18))
model['neck'] = dict(model['neck'], in_channels=[64, 128, 256, 512])
model['rpn_head'] = dict(model['rpn_head'], anchor_generator=dict(scales=[4]))  # 16 px and up
resize = dict(_base_.resize, scale=_base_.small_image_size)
train_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.train_pipeline]
test_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.test_pipeline]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = _base_.small_loop
optim_wrapper = _base_.small_optim
param_scheduler = _base_.small_scheduler
