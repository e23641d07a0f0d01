# Cascade Mask R-CNN, ResNet-50-FPN.
_base_ = ['../_base_/models/cascade_mask_rcnn_r50_fpn.py', '../_base_/default_preset.py']
