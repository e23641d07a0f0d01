# Row 1 of the ablation: Mask R-CNN, ResNet-50, one feature level.
_base_ = [
    './_base_/models/maskrcnn_r50.py',
    './_base_/datasets/cells.py',
    './_base_/schedules/adamw_cosine_40e.py',
    './_base_/default_runtime.py',
]

ablation_variable = []  # what differs from the row above, as prefixes of dotted keys: nothing, this is the first
