# Mask Scoring R-CNN, ResNet-50-FPN.
_base_ = ['../_base_/models/mask_scoring_rcnn_r50_fpn.py', '../_base_/default_preset.py']
