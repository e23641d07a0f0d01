# Row 1 at depth 18, for CPU cores: one feature level.
_base_ = ['../_base_/models/maskrcnn_r18.py', './consep_cpu.py']

model = dict(_base_.consep_model, rpn_head=dict(anchor_generator=dict(scales=[2 ** (half / 2) for half in range(10)])))
