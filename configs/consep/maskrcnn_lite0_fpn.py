# A detector for CPUs, EfficientNet-Lite0 with ImageNet weights. README.md has the reasons.
_base_ = ['../_base_/models/maskrcnn_lite0_fpn.py', './consep_lite0.py']

model = _base_.consep_model
