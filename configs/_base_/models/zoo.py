# What the detectors from MMDetection's own configs share, see ../../zoo/README.md. A model that sets nothing else keeps
# what MMDetection says.
preprocessor = dict(
    type='DetDataPreprocessor',
    mean=None,  # filled in by tools/train.py, as in maskrcnn_r50.py
    std=None,
    bgr_to_rgb=True,
    pad_mask=True,
    pad_size_divisor=32,
)
resnet50 = dict(
    type='ResNet',
    depth=50,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    frozen_stages=1,
    norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=True,
    style='pytorch',
    # ImageNet, IMAGENET1K_V1 of torchvision; MMDetection's torchvision://resnet50 needs that package
    init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth'),
)
most_cells = 1000  # of an image; MMDetection's 100 are too few
