# Row 2 of the ablation: + FPN.
_base_ = ['./_base_/models/maskrcnn_r50_fpn.py', './_base_/default_preset.py']
