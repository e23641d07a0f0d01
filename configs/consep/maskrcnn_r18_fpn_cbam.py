# Row 3 at depth 18: + CBAM after each of the four stages.
_base_ = './maskrcnn_r18_fpn.py'

ablation_variable = ['model.backbone']
model = dict(backbone=dict(type='CBAMResNet', attention=dict(type='CBAM', reduction=16), placement='stage'))
