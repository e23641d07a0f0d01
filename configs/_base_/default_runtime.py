default_scope = 'mmdet'
custom_imports = dict(imports=['cellseg_mm'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook', interval=1, max_keep_ckpts=3, save_best='cells/segm_AP50_max1000', rule='greater'
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook', score_thr=0.5),
)
custom_hooks = [
    dict(type='NumClassCheckHook'),
    dict(type='TrainingSetHook'),
    dict(type='AnchorFitHook'),
    dict(type='FiniteLossHook'),
    dict(type='SeedHook'),
    dict(type='SyncBuffersHook'),  # BatchNorm's statistics of several processes, before they are used
    dict(type='ValLossHook'),
    dict(type='ValPrecisionHook'),
    dict(type='InputScaleHook'),
    dict(type='OperatingPointHook'),
    dict(type='CoreHoursHook'),
    dict(type='ResumeValidationHook'),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
visualizer = dict(
    type='CellVisualizer',
    name='visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
log_processor = dict(
    type='HeadlineLogProcessor',
    window_size=20,
    by_epoch=True,
    headline=['cells/segm_AP50_max1000', 'cells/segm_mAP_max1000', 'cells/PQ', 'cells/mPQ', 'cells/score_thr'],
)
log_level = 'INFO'
# the views of tools/test.py --tta: all combinations; scales are factors on the size that Resize gives
tta_model = dict(type='CellTTAModel', flips=[False, True], turns=[0, 1, 2, 3], scales=[1.0])
load_from = None
resume = False
randomness = dict(seed=0)
