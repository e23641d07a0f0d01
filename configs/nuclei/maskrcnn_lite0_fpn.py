# The CPU detector of CoNSeP on images of 320x256 px, of one class: nuclei. README.md says how the set is made.
_base_ = '../consep/maskrcnn_lite0_fpn.py'

data_root = 'data/nuclei/'
resize = dict(type='Resize', scale=(640, 512), keep_ratio=True)  # twice the image, as the training windows
test_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.test_pipeline]
train_dataloader = dict(dataset=dict(times=12))  # windows of each image an epoch, of which an image holds five
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
train_cfg = dict(max_epochs=8, val_interval=4)
