# PointRend, ResNet-50-FPN.
_base_ = ['../_base_/models/point_rend_r50_fpn.py', '../_base_/default_preset.py']
