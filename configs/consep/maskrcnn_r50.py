# Row 1 of the ablation on CoNSeP: one feature level.
_base_ = ['../_base_/models/maskrcnn_r50.py', './consep.py']

model = dict(_base_.consep_model, backbone=_base_.from_scratch)
model['rpn_head'] = dict(anchor_generator=dict(scales=[2 ** (half / 2) for half in range(10)]))
