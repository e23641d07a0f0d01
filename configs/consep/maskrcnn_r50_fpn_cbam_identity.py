# Row 3 with CBAM that starts as the identity.
_base_ = './maskrcnn_r50_fpn_cbam.py'

ablation_variable = ['model.backbone.attention.identity_init']
model = dict(backbone=dict(attention=dict(identity_init=True)))
