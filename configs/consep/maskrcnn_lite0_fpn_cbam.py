# The same with CBAM after each stage; it starts as the identity, because the weights around it are pretrained.
_base_ = './maskrcnn_lite0_fpn.py'

ablation_variable = ['model.backbone.attention']
model = dict(backbone=dict(attention=dict(type='CBAM', reduction=16, identity_init=True)))
