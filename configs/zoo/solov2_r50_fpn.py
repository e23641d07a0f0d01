# SOLOv2, ResNet-50-FPN.
_base_ = ['../_base_/models/solov2_r50_fpn.py', '../_base_/default_preset.py']

optim_wrapper = dict(clip_grad=dict(max_norm=35))
