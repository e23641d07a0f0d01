# The job of `make demo`, no row: the detector for CPUs with CBAM. Its ImageNet weights make 7 epochs enough.
_base_ = ['../_base_/models/maskrcnn_lite0_fpn.py', './small.py']

model = dict(backbone=dict(attention=dict(type='CBAM', reduction=16, identity_init=True)))
train_cfg = dict(max_epochs=7)
