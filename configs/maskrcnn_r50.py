# Row 1 of the ablation: Mask R-CNN, ResNet-50, one feature level.
_base_ = ['./_base_/models/maskrcnn_r50.py', './_base_/default_preset.py']
