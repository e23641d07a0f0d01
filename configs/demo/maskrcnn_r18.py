# Row 1 of the ablation, small: one feature level.
_base_ = ['../_base_/models/maskrcnn_r18.py', './small.py']
