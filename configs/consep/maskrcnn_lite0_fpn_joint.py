# The last phase with other tissue beside CoNSeP. Start it from maskrcnn_lite0_fpn.py's checkpoint, by --load-from.
_base_ = ['../_base_/models/maskrcnn_lite0_fpn.py', './consep_lite0_joint.py']

model = _base_.consep_model
