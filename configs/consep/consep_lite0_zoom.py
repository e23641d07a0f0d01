# After the larger windows: cells of other sizes and colours than those of CoNSeP, for tissue of other kinds.
_base_ = './consep_lite0_wide.py'

stronger = dict(
    RandomZoom=dict(scale_range=(0.6, 1.8), prob=0.7), ColorJitter=dict(brightness=0.4, contrast=0.5, saturation=0.5)
)
train_pipeline = [dict(step, **stronger.get(step['type'], {})) for step in _base_.train_pipeline]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

train_cfg = dict(max_epochs=8, val_interval=4)
optim_wrapper = dict(optimizer=dict(lr=3e-4))
