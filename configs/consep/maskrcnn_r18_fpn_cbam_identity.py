# Row 3 at depth 18 with CBAM that starts as the identity.
_base_ = './maskrcnn_r18_fpn_cbam.py'

ablation_variable = ['model.backbone.attention.identity_init']
model = dict(backbone=dict(attention=dict(identity_init=True)))
