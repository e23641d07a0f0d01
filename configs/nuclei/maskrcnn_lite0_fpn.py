# The CPU detector of CoNSeP on images of 320x256 px, of one class: nuclei. README.md says how the set is made.
_base_ = '../consep/maskrcnn_lite0_fpn.py'

data_root = 'data/nuclei/'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(640, 512), keep_ratio=True),  # twice the image, as the training windows
    dict(type='LoadCellAnnotations'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
# as many windows an epoch as on CoNSeP: three times its images, each a twelfth as large
train_dataloader = dict(dataset=dict(times=24))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
