"""The places of scores, numbers, classes, anchors and weights in the configs of MMDetection's detectors."""

import copy

import numpy as np
import pytest
from conftest import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cellseg_mm.models import detector_config
from cellseg_mm.utils import UserError

ZOO = sorted(path.stem for path in ROOT.glob('configs/zoo/*.py'))
# of MMDetection as they are, with the most instances of an image
STOCK = {
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py': 100,
    'queryinst/queryinst_r50_fpn_1x_coco.py': 100,
    'htc/htc-without-semantic_r50_fpn_1x_coco.py': 100,
    'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py': 100,
    'yolact/yolact_r50_1xb8-55e_coco.py': 100,
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py': 100,
    'maskformer/maskformer_r50_ms-16xb1-75e_coco.py': 100,
    'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py': 100,
}


def zoo(name):
    return Config.fromfile(ROOT / f'configs/zoo/{name}.py').model


def stock(name):
    return get_config(f'mmdet::{name}').model


def build(model):
    model = copy.deepcopy(model)
    detector_config.forget_pretrained(model)
    return MODELS.build(model)


def assert_has_classes(detector, count):
    """Of each module that has a number of classes, as NumClassCheckHook has it, and of the losses' weights."""
    found = {
        name: module.num_classes
        for name, module in detector.named_modules()
        if hasattr(module, 'num_classes') and not name.endswith('rpn_head')
    }
    assert found and set(found.values()) == {count}, found
    weights = [module.class_weight for module in detector.modules() if getattr(module, 'class_weight', None)]
    assert all(len(weight) == count + 1 for weight in weights)


@pytest.mark.parametrize('name', ZOO)
def test_a_detector_of_the_zoo_takes_any_number_of_classes(name):
    model = zoo(name)
    detector_config.check_detector(model, name)
    detector_config.set_num_classes(model, 3)
    assert_has_classes(build(model), 3)


@pytest.mark.parametrize('name, most', STOCK.items())
def test_a_stock_detector_takes_any_number_of_classes(name, most):
    model = stock(name)
    detector_config.check_detector(model, name)
    assert detector_config.most_instances(model) == most
    detector_config.set_num_classes(model, 2)
    detector = build(model)
    assert_has_classes(detector, 2)
    assert detector_config.most_instances(dict(test_cfg=detector.test_cfg)) == most


def test_class_weights_follow_the_classes():
    def model(weights, **counts):
        return dict(head=dict(loss_cls=dict(class_weight=weights), **(counts or dict(num_classes=3))))

    for weights, expected in (
        ([1.0, 1.0, 1.0, 0.1], [1.0, 1.0, 0.1]),
        ((2.0, 2.0, 2.0), [2.0, 2.0]),
    ):
        found = model(weights)
        detector_config.set_num_classes(found, 2)
        assert found == model(expected, num_classes=2)
    panoptic = model([1.0] * 5 + [0.1], num_things_classes=3, num_stuff_classes=2)
    detector_config.set_num_classes(panoptic, 4)
    assert panoptic == model([1.0] * 4 + [0.1], num_things_classes=4, num_stuff_classes=0)
    same = model([1.0, 2.0, 3.0, 0.1])
    detector_config.set_num_classes(same, 3)  # of the config's own classes
    assert same == model([1.0, 2.0, 3.0, 0.1])
    for weights, count in (([1.0, 2.0, 3.0, 0.1], 2), ([1.0] * 7, 3), ([1.0] * 7, 2)):
        with pytest.raises(UserError, match=f'class_weight: .* a config of 3 classes, but the data have {count}; give'):
            detector_config.set_num_classes(model(weights), count)


def test_classes_of_other_things_stay():
    model = dict(backbone=dict(num_classes=1000), rpn_head=dict(num_classes=1), heads=[dict(num_classes=80)] * 2)
    detector_config.set_num_classes(model, 4)
    assert model == dict(backbone=dict(num_classes=1000), rpn_head=dict(num_classes=1), heads=[dict(num_classes=4)] * 2)


@pytest.mark.parametrize(
    'name, floors',
    [
        ('cascade_mask_rcnn_r50_fpn', {'test_cfg.rcnn.score_thr': 0.05}),
        ('rtmdet_ins_tiny', {'test_cfg.score_thr': 0.05}),
        ('solov2_r50_fpn', {'test_cfg.score_thr': 0.1, 'test_cfg.filter_thr': 0.05}),
        ('mask2former_r50', {'test_cfg.score_thr': 0.05}),
    ],
)
def test_the_least_score(name, floors):
    model = zoo(name)
    assert detector_config.score_floors(model) == floors
    detector_config.set_score_floor(model, 0.3)
    for value in detector_config.score_floors(model).values():  # a score of 0.3 is above, the one below it is not
        assert np.nextafter(np.float32(0.3), np.float32(0)) <= value < np.float32(0.3)
    rest = {key: value for key, value in model.items() if key != 'test_cfg'}
    assert rest == {key: value for key, value in zoo(name).items() if key != 'test_cfg'}


def test_a_detector_without_a_least_score_keeps_its_config():
    model = stock('mask2former/mask2former_r50_8xb2-lsj-50e_coco.py')
    before = copy.deepcopy(model)
    assert detector_config.score_floors(model) == {}
    detector_config.set_score_floor(model, 0.3)
    assert model == before


def test_the_proposals_are_not_the_instances():
    test_cfg = dict(rpn=dict(max_per_img=2000, score_thr=0.7), rcnn=dict(max_per_img=-1, score_thr=0.1))
    assert detector_config.most_instances(dict(test_cfg=test_cfg)) > 10**9  # -1 is all
    assert detector_config.score_floors(dict(test_cfg=test_cfg)) == {'test_cfg.rcnn.score_thr': 0.1}


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda model: model.pop('backbone'), 'model RTMDet has no backbone; a detector of MMDetection is needed'),
        (lambda model: model.bbox_head.pop('num_classes'), 'no part of model RTMDet has num_classes; .*--config'),
        (lambda model: model.test_cfg.pop('max_per_img'), 'model.test_cfg of RTMDet has no max_per_img, .*--config'),
    ],
)
def test_structures_that_nobody_knows_are_refused(change, message):
    model = zoo('rtmdet_ins_tiny')
    change(model)
    with pytest.raises(UserError, match=f'^x.py: {message}'):
        detector_config.check_detector(model, 'x.py')


@pytest.mark.parametrize(
    'name', ['faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py']
)
def test_a_detector_of_boxes_alone_is_refused(name):
    with pytest.raises(UserError, match=r'^x.py: \w+ predicts boxes without masks; choose a detector of instance'):
        detector_config.check_detector(stock(name), 'x.py')


@pytest.mark.parametrize('name', ZOO)
def test_anchors_or_none(name):
    found = detector_config.build_anchor_generator(zoo(name))
    own = detector_config.anchor_generator(build(zoo(name)))
    if name in ('rtmdet_ins_tiny', 'solov2_r50_fpn', 'mask2former_r50'):
        assert found is own is None
    else:
        assert [a.tolist() for a in found.base_anchors] == [a.tolist() for a in own.base_anchors]


def test_colours_go_in_the_order_of_the_models_channels():
    for settings, order in ((dict(bgr_to_rgb=True), 1), (dict(bgr_to_rgb=False), -1), ({}, -1)):
        model = dict(data_preprocessor=dict(settings))
        assert detector_config.normalisation(model) == (None, None)
        detector_config.set_normalisation(model, [1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
        assert model['data_preprocessor']['mean'] == [1.0, 2.0, 3.0][::order]
        assert detector_config.normalisation(model) == ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])


FROZEN = {
    'ResNet': dict(depth=18),  # its norm_eval is True by default
    'ResNet, frozen': dict(type='ResNet', depth=18, frozen_stages=2, norm_cfg=dict(type='BN', requires_grad=False)),
    'AttentionResNet': dict(depth=18, attention='SE', frozen_stages=1),
    'SwinTransformer': dict(embed_dims=12, depths=[1] * 4, num_heads=[1] * 4, frozen_stages=1),  # has no norm_eval
    'EfficientNetLite': dict(frozen_stages=3, norm_eval=True),
    'CSPNeXt': dict(widen_factor=0.125, deepen_factor=0.167, norm_cfg=dict(type='BN')),
}


@pytest.mark.parametrize('name', FROZEN)
def test_from_scratch_trains_all_of_any_backbone(name):
    backbone = dict(dict(type=name), **FROZEN[name], init_cfg=dict(type='Pretrained', checkpoint='x.pth'))
    model = ConfigDict(backbone=backbone, head=dict(init_cfg=dict(type='Normal'), pretrained='y.pth'))
    assert detector_config.backbone_weights(model) == 'x.pth'
    detector_config.forget_pretrained(model)
    detector_config.train_all(model)
    assert model.backbone.init_cfg is None and model.head == dict(init_cfg=dict(type='Normal'), pretrained=None)
    built = MODELS.build(model.backbone)
    built.train()  # mmdet's ResNet returns None
    assert all(parameter.requires_grad for parameter in built.parameters())
    assert all(module.training for module in built.modules() if isinstance(module, (_BatchNorm, nn.LayerNorm)))
