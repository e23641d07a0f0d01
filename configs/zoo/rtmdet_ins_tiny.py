# RTMDet-Ins-tiny.
_base_ = ['../_base_/models/rtmdet_ins_tiny.py', '../_base_/default_preset.py']

optim_wrapper = dict(clip_grad=dict(max_norm=35))
