# Row 2 of the ablation, small: + FPN.
_base_ = ['../_base_/models/maskrcnn_r18_fpn.py', './small.py']
