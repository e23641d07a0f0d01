# Mask R-CNN with a ResNeXt-50 32x4d (Xie et al., CVPR 2017) as backbone.
_base_ = './maskrcnn_r50_fpn.py'

ablation_variable = ['model.backbone']
# ImageNet, IMAGENET1K_V1 of torchvision
weights = 'https://download.pytorch.org/models/resnext50_32x4d-7cdf4587.pth'
model = dict(backbone=dict(type='ResNeXt', groups=32, base_width=4, init_cfg=dict(checkpoint=weights)))
