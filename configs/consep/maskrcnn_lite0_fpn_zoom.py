# After maskrcnn_lite0_fpn_wide.py: other sizes and colours. Start it from that one's checkpoint, by --load-from.
_base_ = ['../_base_/models/maskrcnn_lite0_fpn.py', './consep_lite0_zoom.py']

model = _base_.consep_model
