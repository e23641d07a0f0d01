# Row 3 of the ablation with the course report's score threshold (its Table 2), which cuts average precision's curve.
_base_ = './maskrcnn_r50_fpn_cbam.py'

ablation_variable = ['model.test_cfg.rcnn.score_thr']
model = dict(test_cfg=dict(rcnn=dict(score_thr=0.5)))
