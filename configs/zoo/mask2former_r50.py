# Mask2Former, ResNet-50.
_base_ = ['../_base_/models/mask2former_r50.py', '../_base_/default_preset.py']

# as MMDetection's: small gradients, and an attention that is learned slowly
optim_wrapper = dict(optimizer=dict(lr=1e-4), clip_grad=dict(max_norm=0.01))
