# Mask R-CNN, Swin-T-FPN.
_base_ = ['../_base_/models/maskrcnn_swin_t_fpn.py', '../_base_/default_preset.py']
