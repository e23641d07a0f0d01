# + random amounts of haematoxylin and eosin in training.
_base_ = './maskrcnn_lite0_fpn_purple.py'

ablation_variable = ['train_dataloader.dataset.dataset.pipeline', 'train_pipeline']
train_pipeline = [
    new
    for step in _base_.train_pipeline
    for new in ([dict(type='StainJitter', factor=0.5, shift=0.1)] if step['type'] == 'ColorJitter' else []) + [step]
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
