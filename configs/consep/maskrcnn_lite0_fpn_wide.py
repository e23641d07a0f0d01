# The last phase of maskrcnn_lite0_fpn.py: larger windows. Start it from that one's checkpoint, by --load-from.
_base_ = ['../_base_/models/maskrcnn_lite0_fpn.py', './consep_lite0_wide.py']

model = _base_.consep_model
