# The same for the detector with ImageNet weights: fewer candidates, proposals and RoI samples are enough for ten cells.
_base_ = './consep_cpu.py'

consep_model = dict(
    train_cfg=dict(rpn_proposal=dict(nms_pre=400, max_per_img=200), rcnn=dict(sampler=dict(num=96))),
)
