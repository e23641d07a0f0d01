# A set made by tools/prepare_data.py. tools/train.py fills in its class names from <data_root>/statistics.json.
data_root = 'data/cells/'

# The course report does not give the input's size; 800/1333 is the default of torchvision, probably its base.
resize = dict(type='Resize', scale=(1333, 800), keep_ratio=True)

# The course report's Table 1, row by row. The normalisation is the model's data_preprocessor.
geometric = [
    # two flips, because one with a list of probabilities never flips both ways
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomFlip', prob=0.3, direction='vertical'),
    dict(type='RandomRotation', max_angle=15, prob=0.4),
    dict(type='RandomZoom', scale_range=(0.85, 1.15), prob=0.3),
    dict(type='RandomResizedCrop', area_range=(0.8, 1.0), aspect_range=(0.9, 1.1), prob=0.3),
]
photometric = [
    # the table gives no probability for the jitter; we apply it always
    dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, hue=0.15, prob=1.0),
    dict(type='RandomGaussianNoise', std=0.02, prob=0.2),
    dict(type='RandomGaussianBlur', kernel_size=3, sigma_range=(0.1, 1.0), prob=0.2),
    dict(type='RandomGamma', gamma_range=(0.8, 1.2), prob=0.3),
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadCellAnnotations'),
    *geometric,
    dict(type='ApplyAffine', min_visible=0.1),
    *photometric,
    resize,
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    resize,
    # after Resize: ground truth stays at the image's own size, where predictions are scored and drawn
    dict(type='LoadCellAnnotations'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

# filter_cfg is empty: images without a cell, or of 33 px, stay in
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='CellDataset',
        data_root=data_root,
        ann_file='annotations/train.json',
        data_prefix=dict(img='images/'),
        metainfo=None,
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CellDataset',
        data_root=data_root,
        ann_file='annotations/val.json',
        data_prefix=dict(img='images/'),
        metainfo=None,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], ann_file='annotations/test.json'))

# validation chooses the score threshold of PQ and F1; tools/test.py puts in the checkpoint's
val_evaluator = dict(type='CellMetric', ann_file=data_root + 'annotations/val.json', score_thr=None)
test_evaluator = dict(val_evaluator, ann_file=data_root + 'annotations/test.json')
