# Row 3 of the ablation with ECA in place of CBAM.
_base_ = './maskrcnn_r50_fpn_cbam.py'

ablation_variable = ['model.backbone.attention']
model = dict(backbone=dict(attention='ECA'))
