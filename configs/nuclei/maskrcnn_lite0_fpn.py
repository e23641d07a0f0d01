# The CPU detector of CoNSeP on images of 320x256 px, of one class: nuclei. README.md says how the set is made.
_base_ = '../consep/maskrcnn_lite0_fpn.py'

data_root = 'data/nuclei/'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(640, 512), keep_ratio=True),  # twice the image, as the training windows
    dict(type='LoadCellAnnotations'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
# 12 windows of each image an epoch, of which an image holds five
train_dataloader = dict(dataset=dict(times=12))
train_cfg = dict(max_epochs=8, val_interval=4)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
