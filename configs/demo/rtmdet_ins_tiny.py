# RTMDet-Ins-tiny on drawn tissue, from scratch.
_base_ = ['../_base_/models/rtmdet_ins_tiny.py', './small.py']

model = dict(backbone=dict(init_cfg=None))
train_cfg = dict(max_epochs=12, val_interval=4)
