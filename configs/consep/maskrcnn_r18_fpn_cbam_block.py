# Row 3 at depth 18 with CBAM inside each residual block, as in its paper, not after each stage.
_base_ = './maskrcnn_r18_fpn_cbam.py'

ablation_variable = ['model.backbone']
model = dict(backbone=dict(placement='block'))
