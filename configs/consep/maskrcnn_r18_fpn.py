# Row 2 at depth 18: + FPN.
_base_ = ['../_base_/models/maskrcnn_r18_fpn.py', './consep_cpu.py']

model = dict(_base_.consep_model, rpn_head=dict(anchor_generator=dict(scales=[4, 4 * 2**0.5])))
