# SOLOv2 (Wang et al., NeurIPS 2020): one stage, no boxes, a kernel for each place of a grid.
_base_ = './zoo.py'

from mmengine.hub import get_config  # noqa: E402

model = get_config('mmdet::solov2/solov2_r50_fpn_1x_coco.py').model
model.data_preprocessor = _base_.preprocessor
model.backbone = _base_.resnet50
model.mask_head.update(
    type='RLESOLOV2Head',
    # For many small cells, of which a place of a grid holds one: finer grids, scales of half the size, and masks from
    # 5 px of the quarter-size map up.
    num_grids=[80, 60, 40, 24, 12],
    scale_ranges=((1, 48), (24, 96), (48, 192), (96, 384), (192, 2048)),
    strides=[4, 8, 16, 32, 32],
)
model.test_cfg.update(nms_pre=2 * _base_.most_cells, max_per_img=_base_.most_cells)
