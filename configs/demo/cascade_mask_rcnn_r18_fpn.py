# Cascade Mask R-CNN with a ResNet-18 on drawn tissue, from scratch.
_base_ = ['../_base_/models/cascade_mask_rcnn_r18_fpn.py', './small.py']

train_cfg = dict(max_epochs=6, val_interval=3)
