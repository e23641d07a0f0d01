# Row 2 of the ablation on CoNSeP: + FPN.
_base_ = ['../_base_/models/maskrcnn_r50_fpn.py', './consep.py']

model = dict(_base_.consep_model, backbone=_base_.from_scratch)
model['rpn_head'] = dict(anchor_generator=dict(scales=[4, 4 * 2**0.5]))
