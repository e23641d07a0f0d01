# Mask R-CNN, ResNeXt-50-FPN: the second row of the ablation with another backbone.
_base_ = ['../_base_/models/maskrcnn_x50_fpn.py', '../_base_/default_preset.py']
