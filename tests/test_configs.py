"""What the configs say: the rows of each ablation, their variants, the presets of the data sets."""

import hashlib

import pytest
import torch
from conftest import ROOT
from mmcv import rescale_size
from mmdet.registry import DATASETS, MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config

from cellseg_mm.datasets.splits import read_splits
from cellseg_mm.engine import run_config
from cellseg_mm.inference.input_files import find_images
from cellseg_mm.utils import diff_configs

ROWS = ['maskrcnn_r50', 'maskrcnn_r50_fpn', 'maskrcnn_r50_fpn_cbam']
DEMO_ROWS = ['demo/maskrcnn_r18', 'demo/maskrcnn_r18_fpn', 'demo/maskrcnn_r18_fpn_cbam']
CONSEP_ROWS = [f'consep/{name}' for name in ROWS]
REPORT_VARIANT = 'maskrcnn_r50_fpn_cbam_report'
OTHER_ATTENTION = ['maskrcnn_r50_fpn_se', 'maskrcnn_r50_fpn_eca']
ZOO = sorted(f'zoo/{path.stem}' for path in ROOT.glob('configs/zoo/*.py'))
OTHER_DETECTORS = [*ZOO, 'demo/rtmdet_ins_tiny', 'demo/cascade_mask_rcnn_r18_fpn']
CONSEP_CPU_ROWS = [f'consep/{name}' for name in ('maskrcnn_r18', 'maskrcnn_r18_fpn', 'maskrcnn_r18_fpn_cbam')]
STAIN_ROWS = ['nuclei/maskrcnn_lite0_fpn_purple', 'nuclei/maskrcnn_lite0_fpn_purple_stain']
# (row, what varies it)
VARIANTS = [(ROWS[2], REPORT_VARIANT)]
VARIANTS += [
    (rows[2], f'{rows[2]}_{name}') for rows in (CONSEP_ROWS, CONSEP_CPU_ROWS) for name in ('identity', 'block')
]
CONSEP_VARIANTS = [name for _, name in VARIANTS[1:]]
ABLATIONS = pytest.mark.parametrize(
    'rows', [ROWS, DEMO_ROWS, CONSEP_ROWS, CONSEP_CPU_ROWS], ids=['full', 'demo', 'consep', 'consep_cpu']
)
# every file that is a whole config
CONFIGS = sorted(
    path.relative_to(ROOT / 'configs').with_suffix('').as_posix() for path in ROOT.glob('configs/**/maskrcnn_*.py')
)
CONFIGS = [name for name in CONFIGS if not name.startswith(('_base_/', 'zoo/'))]


def load(name):
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


def build(name):
    cfg = load(name)
    cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model)


def changed_keys(old, new):
    return [key for key, *_ in diff_configs(load(old).to_dict(), load(new).to_dict())]


@ABLATIONS
def test_each_row_differs_in_one_idea(rows):
    plain, fpn, cbam = rows
    parts = ('model.backbone.', 'model.neck.', 'model.rpn_head.anchor_generator.')
    parts += tuple(f'model.roi_head.{branch}_roi_extractor.featmap_strides' for branch in ('bbox', 'mask'))
    assert all(key.startswith(parts) for key in changed_keys(plain, fpn))
    assert changed_keys(plain, fpn)
    assert set(changed_keys(fpn, cbam)) == {
        f'model.backbone.{key}' for key in ('type', 'placement', 'attention.type', 'attention.reduction')
    }


@pytest.mark.parametrize('name', CONFIGS + OTHER_DETECTORS)
def test_configs_are_short_and_open_with_their_idea(name):
    lines = (ROOT / 'configs' / f'{name}.py').read_text().splitlines()
    assert lines[0].startswith('# ')
    assert len([line for line in lines if line and not line.startswith('#')]) < 10


def test_no_config_is_left_out():
    rows = [*ROWS, *DEMO_ROWS, *CONSEP_ROWS, *CONSEP_CPU_ROWS, REPORT_VARIANT, *OTHER_ATTENTION, *CONSEP_VARIANTS]
    lite0 = [f'consep/maskrcnn_lite0_fpn{variant}' for variant in ('', '_cbam', '_joint', '_wide')]
    lite0 += ['demo/maskrcnn_lite0_fpn_cbam', 'nuclei/maskrcnn_lite0_fpn', *STAIN_ROWS]
    assert sorted(rows + lite0) == CONFIGS


@pytest.mark.parametrize('row, name', VARIANTS)
def test_a_variant_differs_in_what_it_declares(row, name):
    """Of the row that it varies, so that any of them may follow it in an ablation."""
    keys, declared = changed_keys(row, name), load(name).ablation_variable
    assert keys and all(any(f'{key}.'.startswith(f'{prefix}.') for prefix in declared) for key in keys)
    assert len(keys) == 1


def test_the_stain_experiment_differs_in_one_step():
    before, after = (load(name) for name in STAIN_ROWS)
    steps = after.train_dataloader.dataset.dataset.pipeline
    assert [step for step in steps if step['type'] != 'StainJitter'] == before.train_pipeline
    declared = tuple(after.ablation_variable)
    assert all(key.startswith(declared) for key in changed_keys(*STAIN_ROWS)) and changed_keys(*STAIN_ROWS)


@pytest.mark.parametrize('name', OTHER_ATTENTION)
def test_another_attention_is_one_name_and_inherits_nothing_of_cbam(name):
    attention = name.rsplit('_', 1)[1].upper()
    assert load(name).model.backbone.attention == attention
    assert set(changed_keys(ROWS[2], name)) == {f'model.backbone.attention{key}' for key in ('', '.type', '.reduction')}
    assert load(name).ablation_variable == ['model.backbone.attention']
    modules = build(name).backbone.attention_modules()
    assert [type(module).__name__ for module in modules] == [attention] * 4


@pytest.mark.parametrize('name', ZOO)
def test_a_detector_of_the_zoo_has_the_default_preset(name):
    preset, cfg = load('_base_/default_preset'), load(name)
    assert all(cfg[key] == value for key, value in preset.items() if key != 'optim_wrapper')
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor.bgr_to_rgb and preprocessor.pad_mask and preprocessor.mean is None
    assert 'batch_augments' not in preprocessor and 'SyncBN' not in cfg.pretty_text
    assert 'torchvision://' not in cfg.pretty_text and 'RLE' in cfg.pretty_text
    assert Config.fromstring(cfg.pretty_text, '.py').model == cfg.model  # nothing but plain values


def test_attention_before_pretrained_weights_starts_as_the_identity():
    name = 'consep/maskrcnn_lite0_fpn'
    keys = {f'model.backbone.attention.{key}' for key in ('type', 'reduction', 'identity_init')}
    assert set(changed_keys(name, f'{name}_cbam')) == keys
    assert load(f'{name}_cbam').model.backbone.attention.identity_init


# a set of larger cells, in the one file that it takes
PRESET = """
_base_ = '{base}'

data_root = 'data/mine/'
resize = dict(type='Resize', scale=(1024, 1024), keep_ratio=True)
train_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.train_pipeline]
test_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.test_pipeline]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
train_cfg = dict(max_epochs=12)
"""


def assert_shows_the_set(cfg):
    assert (cfg.data_root, cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size) == ('data/mine/', 12, 4)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.ann_file == f'annotations/{split}.json'
        assert [tuple(step.scale) for step in dataset.pipeline if step.type == 'Resize'] == [(1024, 1024)]


def test_a_preset_of_another_data_set_is_one_file(tmp_path):
    """Over the default preset, each model of the ablation joins it in one line, and the rows stay comparable."""
    (tmp_path / 'mine.py').write_text(PRESET.format(base=(ROOT / 'configs/_base_/default_preset.py').as_posix()))
    cfgs = []
    for name in ('maskrcnn_r50', 'maskrcnn_r50_fpn'):
        model = (ROOT / f'configs/_base_/models/{name}.py').as_posix()
        (tmp_path / f'{name}.py').write_text(f"_base_ = ['{model}', './mine.py']\n")
        cfgs.append(Config.fromfile(tmp_path / f'{name}.py'))
        assert_shows_the_set(cfgs[-1])
        assert cfgs[-1].model == load(name).model
    assert [key for key, *_ in diff_configs(*(cfg.to_dict() for cfg in cfgs))] == changed_keys(*ROWS[:2])


@pytest.mark.parametrize('row', ['maskrcnn_r50_fpn_cbam', 'demo/maskrcnn_r18_fpn_cbam'])
def test_a_row_on_another_data_set_is_one_file(tmp_path, prepared, row):
    """The same lines over a row; it builds, and its data load."""
    (tmp_path / 'mine.py').write_text(PRESET.format(base=(ROOT / f'configs/{row}.py').as_posix()))
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert_shows_the_set(cfg)
    assert cfg.model == load(row).model
    cfg = run_config.training_config(str(tmp_path / 'mine.py'), dict(data_root=str(prepared)), from_scratch=True)
    assert len(cfg.train_dataloader.dataset.metainfo.classes) == cfg.model.roi_head.bbox_head.num_classes
    assert MODELS.build(cfg.model).roi_head.bbox_head.num_classes == cfg.num_classes
    item = DATASETS.build(cfg.train_dataloader.dataset)[0]
    assert max(item['inputs'].shape) == 1024


def test_consep_rows_train_from_scratch_and_are_chosen_without_the_test_split():
    for name in CONSEP_ROWS + CONSEP_CPU_ROWS + CONSEP_VARIANTS:
        cfg = load(name)
        backbone = cfg.model.backbone
        assert backbone.init_cfg is None and backbone.frozen_stages == -1 and not backbone.norm_eval
        assert backbone.norm_cfg == dict(type='BN', requires_grad=True)
        assert cfg.train_dataloader.dataset.dataset.ann_file == 'annotations/train.json'
        assert cfg.val_dataloader.dataset.ann_file == 'annotations/val.json'  # of training images: test_prepare.py
        assert cfg.val_evaluator.ann_file.endswith('annotations/val.json') and cfg.val_evaluator.score_thr is None
        assert cfg.test_dataloader.dataset.ann_file == 'annotations/test.json'
        # room for the 2,283 cells of the densest image
        test_cfg = cfg.model.test_cfg
        assert test_cfg.rpn.max_per_img > test_cfg.rcnn.max_per_img > 2283
        # NMS across classes up to the most boxes that the proposals can give
        assert test_cfg.rcnn.nms.class_agnostic and test_cfg.rcnn.nms.split_thr > 4 * test_cfg.rpn.max_per_img


def test_consep_rows_for_cpu_cores_train_on_small_windows():
    """Ten cells a window: few candidates, proposals and samples are enough for a pretrained backbone."""
    numbers = dict.fromkeys(CONSEP_CPU_ROWS, (2000, 1000, 128)) | {'consep/maskrcnn_lite0_fpn': (400, 200, 96)}
    for name, (candidates, proposals, samples) in numbers.items():
        cfg = load(name)
        loader, train_cfg = cfg.train_dataloader, cfg.model.train_cfg
        assert [step.size for step in loader.dataset.dataset.pipeline if step.type == 'RandomWindow'] == [128]
        assert (loader.num_workers, loader.dataset.times, loader.batch_sampler) == (1, 32, None)
        assert loader.batch_size == cfg.auto_scale_lr.base_batch_size
        assert (train_cfg.rpn_proposal.nms_pre, train_cfg.rpn_proposal.max_per_img) == (candidates, proposals)
        assert train_cfg.rcnn.sampler.num == samples


@pytest.mark.parametrize('name', [*DEMO_ROWS, *CONSEP_CPU_ROWS, *CONSEP_VARIANTS[2:]])
def test_small_rows_train_from_scratch(name):
    """The ImageNet weights of the large rows are a ResNet-50's: in a ResNet-18, random layers would be frozen."""
    cfg = load(name)
    backbone = cfg.model.backbone
    assert (backbone.depth, backbone.init_cfg, backbone.norm_eval) == (18, None, False)
    assert all(parameter.requires_grad for parameter in MODELS.build(backbone).parameters())


@pytest.mark.parametrize('name, count', [('maskrcnn_r50_fpn', 43_987_304), ('maskrcnn_r50_fpn_cbam', 44_688_104)])
def test_parameters_of_the_detector(name, count):
    assert sum(parameter.numel() for parameter in build(name).parameters()) == count


@ABLATIONS
def test_all_rows_have_the_same_anchor_sizes(rows):
    sizes = []
    for name in rows:
        generator = build(name).rpn_head.prior_generator
        shapes = torch.cat([level[:, 2:] - level[:, :2] for level in generator.base_anchors])
        sizes.append(sorted(map(tuple, shapes.round().int().tolist())))
    assert sizes[0] == sizes[1] == sizes[2]


@pytest.mark.parametrize('name', CONFIGS)
def test_average_precision_sees_the_whole_curve(name):
    """The course report's threshold of 0.5, which cuts the curve, stands in the variant that is named after it."""
    assert load(name).model.test_cfg.rcnn.score_thr == (0.5 if name == REPORT_VARIANT else 0.05)


def test_the_reports_training():
    cfg = load(REPORT_VARIANT)
    assert cfg.optim_wrapper == dict(type='AmpOptimWrapper', optimizer=dict(type='AdamW', lr=2e-4, weight_decay=1e-4))
    assert cfg.param_scheduler == [dict(type='CosineAnnealingLR', eta_min=5e-6, by_epoch=True)]  # to the last epoch
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval, cfg.train_dataloader.batch_size) == (40, 1, 2)
    assert cfg.model.test_cfg.rcnn.score_thr == 0.5 and cfg.model.test_cfg.rcnn.nms.iou_threshold == 0.5
    assert cfg.model.test_cfg.rcnn.max_per_img == 1000
    for split in ('train', 'val', 'test'):
        steps = cfg[f'{split}_dataloader'].dataset.pipeline
        resize = next(step for step in steps if step.type == 'Resize')
        assert tuple(resize.scale) == (1333, 800) and resize.keep_ratio


def test_the_reports_table_1():
    """Its rows in its order, with its parameters and probabilities."""
    kept = ('LoadImageFromFile', 'LoadCellAnnotations', 'ApplyAffine', 'Resize', 'PackDetInputs')
    kept += ('LoadRecentImage', 'RandomWindow')
    for name in ROWS + DEMO_ROWS + CONSEP_ROWS:
        dataset = load(name).train_dataloader.dataset
        steps = [dict(step) for step in dataset.get('dataset', dataset).pipeline if step.type not in kept]
        assert steps == [
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='RandomFlip', prob=0.3, direction='vertical'),
            dict(type='RandomRotation', max_angle=15, prob=0.4),
            dict(type='RandomZoom', scale_range=(0.85, 1.15), prob=0.3),
            dict(type='RandomResizedCrop', area_range=(0.8, 1.0), aspect_range=(0.9, 1.1), prob=0.3),
            dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, hue=0.15, prob=1.0),
            dict(type='RandomGaussianNoise', std=0.02, prob=0.2),
            dict(type='RandomGaussianBlur', kernel_size=3, sigma_range=(0.1, 1.0), prob=0.2),
            dict(type='RandomGamma', gamma_range=(0.8, 1.2), prob=0.3),
        ]


def test_the_images_that_are_shown_and_a_fifth_of_the_others_are_held_out():
    splits = read_splits(ROOT / 'configs/nuclei/images.csv')
    shown = {path.stem for path in find_images([ROOT / 'data/samples'])}
    others = sorted(splits.keys() - shown)
    assert len(shown) == 12 and len(splits) == 107
    assert {name for name, split in splits.items() if split == 'test'} == shown | set(others[::5])
    sums = dict(reversed(line.split('  ')) for line in (ROOT / 'data/samples/SHA256SUMS').read_text().splitlines())
    assert sums.keys() == {f'{name}{ending}.png' for name in shown for ending in ('', '_masks')}
    for name, digest in sums.items():
        assert hashlib.sha256((ROOT / 'data/samples' / name).read_bytes()).hexdigest() == digest


def test_nuclei_are_shown_in_training_and_testing_at_one_scale():
    cfg = load('nuclei/maskrcnn_lite0_fpn')
    window = next(step for step in cfg.train_dataloader.dataset.dataset.pipeline if step.type == 'Resize')
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        whole = next(step for step in loader.dataset.pipeline if step.type == 'Resize')
        assert rescale_size((320, 256), tuple(whole.scale), return_scale=True)[1] == window.scale_factor == 2
    changed = changed_keys('consep/maskrcnn_lite0_fpn', 'nuclei/maskrcnn_lite0_fpn')
    assert not [key for key in changed if key.startswith('model.')]


def test_num_classes_stands_in_one_place():
    cfg = Config.fromfile(ROOT / 'configs/_base_/models/maskrcnn_r50.py')
    text = (ROOT / 'configs/_base_/models/maskrcnn_r50.py').read_text()
    assert text.count('num_classes = 4') == 1 and 'num_classes=4' not in text
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 4


@pytest.mark.parametrize('name', ROWS + DEMO_ROWS)
def test_loss_and_predict(name):
    model = build(name)
    batch = demo_mm_inputs(2, [[3, 96, 96], [3, 64, 128]], num_items=[3, 0], num_classes=4, with_mask=True)
    data = model.data_preprocessor(batch, training=True)
    model.train()
    losses = model(**data, mode='loss')
    total = sum(
        value
        for key, entry in losses.items()
        if 'loss' in key
        for value in (entry if isinstance(entry, list) else [entry])
    )
    total.backward()
    assert total.isfinite()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.eval()
    model.test_cfg.rcnn.score_thr = model.roi_head.test_cfg.score_thr = 0.0
    with torch.no_grad():
        results = model(**model.data_preprocessor(batch, training=False), mode='predict')
    assert len(results) == 2
    for result in results:
        instances = result.pred_instances
        assert len(instances.masks) == len(instances.bboxes) > 0
        assert all(code['size'] == list(result.ori_shape) for code in instances.masks)


def test_statistics_of_processes_are_averaged_before_they_are_used():
    """Hooks of one priority run in the order of the list."""
    hooks = [hook['type'] for hook in load('maskrcnn_r50').custom_hooks]
    assert hooks.index('SyncBuffersHook') < hooks.index('ValLossHook')
