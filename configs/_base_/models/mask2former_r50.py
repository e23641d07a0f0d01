# Mask2Former (Cheng et al., CVPR 2022): a transformer whose queries are the cells.
_base_ = './zoo.py'

from mmengine.hub import get_config  # noqa: E402

queries = 300  # the most cells of an image
model = get_config('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py').model
model.data_preprocessor = _base_.preprocessor  # MMDetection's pads each batch to 1024x1024 px
model.backbone = _base_.resnet50
model.panoptic_head.update(type='RLEMask2FormerHead', num_queries=queries)
model.panoptic_fusion_head.type = 'RLEMaskFormerFusionHead'
model.test_cfg.update(max_per_image=queries, score_thr=0.05)
