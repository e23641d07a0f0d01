# Mask R-CNN on the single feature map of a dilated ResNet-50: stage 4 keeps stride 16. One level, yet all four stages
# and the very heads of the FPN row, so that the two rows differ in the neck and what hangs on it.
num_classes = 4  # tools/train.py puts in the prepared set's own
ablation_variable = []  # what differs from the row above, as prefixes of dotted keys: nothing, this is the first

model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        # the training split's own, filled in by tools/train.py from <data_root>/statistics.json
        mean=None,
        std=None,
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        out_indices=(3,),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        style='pytorch',
        # ImageNet, IMAGENET1K_V1 of torchvision; as a plain URL it needs no torchvision
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth'),
    ),
    neck=dict(type='ChannelMapper', in_channels=[2048], kernel_size=1, out_channels=256, act_cfg=None),
    rpn_head=dict(
        type='RPNHead',
        in_channels=256,
        feat_channels=256,
        anchor_generator=dict(
            # 32 to 512 px, the sizes that the FPN row has over its five levels
            type='AnchorGenerator',
            scales=[2, 4, 8, 16, 32],
            ratios=[0.5, 1.0, 2.0],
            strides=[16],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[1.0] * 4),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0),
    ),
    roi_head=dict(
        type='JointBatchRoIHead',  # StandardRoIHead in one process
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='SparseRoIAlign', output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[16],
        ),
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=num_classes,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=False,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        ),
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='SparseRoIAlign', output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[16],
        ),
        mask_head=dict(
            type='RLEMaskHead',  # predicts run-length codes, the same bits as FCNMaskHead's bitmaps
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes=num_classes,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='SparseMaxIoUAssigner',
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(type='RandomSampler', num=256, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=2000, max_per_img=1000, nms=dict(type='sparse_nms', iou_threshold=0.7), min_bbox_size=0
        ),
        rcnn=dict(
            assigner=dict(
                type='SparseMaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
            mask_size=28,
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=1000, nms=dict(type='sparse_nms', iou_threshold=0.7), min_bbox_size=0),
        # the course report's NMS threshold; up to 772 cells an image, so not mmdet's 100. A low score threshold, so
        # that average precision sees the whole curve; validation chooses the one of PQ and F1.
        rcnn=dict(
            score_thr=0.05, nms=dict(type='sparse_nms', iou_threshold=0.5), max_per_img=1000, mask_thr_binary=0.5
        ),
    ),
)
