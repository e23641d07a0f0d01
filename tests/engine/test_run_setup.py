import json
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, read_json
from mmdet.registry import HOOKS
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from tiny_detector import tiny_config

from cellseg_mm.engine import checkpoint, run_setup
from cellseg_mm.evaluation import read_tested
from cellseg_mm.utils import UserError, scored_dataset

FLAGSHIP = ROOT / 'configs/maskrcnn_r50_fpn_cbam.py'


@pytest.fixture
def cfg():
    return Config.fromfile(FLAGSHIP)


def test_data_root_goes_everywhere(cfg, prepared):
    cfg.data_root = str(prepared)
    assert run_setup.set_data_root(cfg) == prepared
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.data_root == f'{prepared}/'
    assert cfg.val_evaluator.ann_file == str(prepared / 'annotations/val.json')
    assert cfg.test_evaluator.ann_file == str(prepared / 'annotations/test.json')


def wrap(cfg, split, *ann_files):
    """Put the data set of a split, or of each annotation file one, into a wrapper."""
    loader = cfg[f'{split}_dataloader']
    inner = scored_dataset(loader.dataset).to_dict()
    datasets = [dict(inner, ann_file=ann_file) for ann_file in ann_files] or [inner]
    wrapper = dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=datasets))
    loader.dataset = ConfigDict(wrapper)


def test_wrapped_data_sets_are_validated_and_tested_on(cfg, prepared):
    cfg.data_root = str(prepared)
    for split in ('train', 'val', 'test'):
        wrap(cfg, split)
    run_setup.fill_from_prepared_data(cfg)
    assert cfg.val_evaluator.ann_file == str(prepared / 'annotations/val.json')
    assert cfg.test_evaluator.ann_file == str(prepared / 'annotations/test.json')
    assert run_setup.check_test_labels(cfg, prepared)
    tested = read_tested(cfg.test_dataloader.dataset)
    assert tested['images'] == read_json(prepared / 'annotations/test.json')['images']
    wrap(cfg, 'test', 'annotations/val.json', 'annotations/test.json')
    with pytest.raises(UserError, match=r'over 2 data sets \(annotations/val\.json, annotations/test\.json\)'):
        run_setup.set_data_root(cfg)


def test_data_root_relative_to_the_current_directory(cfg, prepared, monkeypatch):
    monkeypatch.chdir(prepared.parent)
    cfg.data_root = prepared.name
    assert run_setup.set_data_root(cfg) == prepared
    (prepared.parent / '2024').symlink_to(prepared)
    cfg.data_root = 2024  # of --cfg-options data_root=2024
    assert run_setup.set_data_root(cfg) == prepared.parent / '2024'
    (prepared.parent / '2024').unlink()


def test_no_data_names_the_command(cfg, tmp_path):
    cfg.data_root = str(tmp_path)
    with pytest.raises(UserError, match=r'tools/prepare_data\.py SOURCE --out'):
        run_setup.set_data_root(cfg)


def test_a_prepared_set_that_is_cut_off(cfg, tmp_path):
    (tmp_path / 'annotations').mkdir()
    for name in ('statistics.json', 'annotations/test.json'):
        (tmp_path / name).write_text('')
    cfg.data_root = str(tmp_path)
    with pytest.raises(UserError, match=r'statistics\.json: is no JSON .*tools/prepare_data\.py'):
        run_setup.fill_from_prepared_data(cfg)
    with pytest.raises(UserError, match=r'test\.json: is no JSON .*tools/prepare_data\.py'):
        run_setup.check_test_labels(cfg, tmp_path)


def test_configs_and_seeds_that_no_run_can_have(prepared, tmp_path):
    options = dict(data_root=str(prepared))
    for seed in (-1, 2**32):
        with pytest.raises(UserError, match=f'seed {seed}: seeds go from 0 to 4294967295'):
            run_setup.training_config(str(FLAGSHIP), options, seed=seed)
    stock = "data_root = 'data/coco/'\ntrain_dataloader = dict(dataset=dict(type='CocoDataset'))"
    (tmp_path / 'stock.py').write_text(stock)
    with pytest.raises(UserError, match=r'stock\.py: is no config of this project; build on one in configs/'):
        run_setup.training_config(str(tmp_path / 'stock.py'), options)
    base = f"_base_ = '{FLAGSHIP.as_posix()}'\n"
    for change in (
        "custom_imports = dict(imports=['json'])",
        "train_dataloader = dict(dataset=dict(type='CocoDataset'))",
    ):
        (tmp_path / 'mine.py').write_text(base + change)
        run_setup.training_config(str(tmp_path / 'mine.py'), options)


def test_facts_of_the_data_fill_the_config(cfg):
    run_setup.set_data_facts(cfg, [1, 2, 3], [4, 5, 6], ['a', 'b'])
    assert cfg.model.data_preprocessor.mean == [1, 2, 3] and cfg.model.data_preprocessor.std == [4, 5, 6]
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 2
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.metainfo.classes == ('a', 'b')
    assert Config.fromstring(cfg.pretty_text, '.py').model.data_preprocessor.mean == [1, 2, 3]


def test_channel_order_of_the_source_travels_with_the_checkpoint(cfg, prepared):
    cfg.data_root = str(prepared)
    old = dict(meta=dict(cfg=cfg.pretty_text))
    run_setup.fill_from_prepared_data(cfg)
    assert run_setup.checkpoint_channel_order(dict(meta=dict(cfg=cfg.pretty_text)), 'x.pth') == 'bgr'
    with pytest.raises(UserError, match=r'x\.pth: does not say .* --channel-order rgb or bgr'):
        run_setup.checkpoint_channel_order(old, 'x.pth')


@pytest.mark.parametrize('name', ['maskrcnn_r50', 'maskrcnn_r50_fpn', 'maskrcnn_r50_fpn_cbam'])
def test_from_scratch_freezes_nothing_in_any_row(name):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    cfg.load_from = 'x.pth'
    run_setup.train_from_scratch(cfg)
    backbone = cfg.model.backbone
    assert cfg.load_from is None
    assert backbone.init_cfg is None and backbone.frozen_stages == -1 and backbone.norm_eval is False


def test_backbone_weights(cfg, tmp_path):
    with pytest.raises(UserError, match='no such file of backbone weights'):
        run_setup.use_backbone_weights(cfg, str(tmp_path / 'x.pth'))
    (tmp_path / 'x.pth').touch()
    cfg.load_from = 'y.pth'
    run_setup.use_backbone_weights(cfg, str(tmp_path / 'x.pth'))
    assert cfg.load_from is None
    assert cfg.model.backbone.init_cfg.checkpoint == str(tmp_path / 'x.pth')


def test_no_network_names_the_switches(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))

    def refuse(*_):
        raise OSError('no route')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', refuse)
    with pytest.raises(UserError, match=r'--backbone-weights FILE.*--from-scratch'):
        run_setup.fetch_backbone_weights(cfg)
    (tmp_path / 'checkpoints').mkdir(exist_ok=True)
    (tmp_path / 'checkpoints' / cfg.model.backbone.init_cfg.checkpoint.rsplit('/', 1)[1]).touch()
    run_setup.fetch_backbone_weights(cfg)  # cached: nothing to fetch


def test_one_process_of_a_machine_fetches_for_all(cfg, tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(checkpoint, '_download', lambda url, path: fetched.append(path))
    for rank, count in (('1', 0), ('0', 1)):
        monkeypatch.setenv('LOCAL_RANK', rank)
        run_setup.fetch_backbone_weights(cfg)
        assert len(fetched) == count


@pytest.mark.parametrize('meta', [{}, dict(cfg='import os', dataset_meta=dict(classes=['a']))])
def test_checkpoints_without_a_config(meta):
    with pytest.raises(UserError, match=r'carries no config of tools/train\.py'):
        run_setup.checkpoint_data_facts(dict(meta=meta), 'x.pth')


def test_weights_of_another_model():
    model = torch.nn.Linear(2, 3)
    run_setup.check_weights_fit(model, dict(state_dict=model.state_dict()), 'a.py', 'x.pth')
    with pytest.raises(UserError, match=r'weight is \(3, 4\) in the checkpoint, \(3, 2\) in the model'):
        run_setup.check_weights_fit(model, dict(state_dict=torch.nn.Linear(4, 3).state_dict()), 'a.py', 'x.pth')
    with pytest.raises(UserError, match='weight is absent'):
        run_setup.check_weights_fit(model, dict(state_dict={}), 'a.py', 'x.pth')
    more = dict(model.state_dict(), attention=torch.zeros(1))
    with pytest.raises(UserError, match='which has no attention'):
        run_setup.check_weights_fit(model, dict(state_dict=more), 'a.py', 'x.pth')


def test_weights_to_start_from(tmp_path, capsys):
    model, path = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4)), str(tmp_path / 'x.pth')
    head_of_other_classes = {'1.weight': torch.zeros(5, 3), '1.bias': torch.zeros(5)}
    matching = dict(model.state_dict(), **head_of_other_classes)
    for weights in (matching, {f'module.{name}': value for name, value in matching.items()}):
        torch.save(dict(state_dict=weights), path)
        run_setup.check_starting_weights(model, path)
        assert capsys.readouterr().out == f"{path}: 2 of the model's 4 weights are taken over\n"
    for weights in ({}, {'encoder.weight': torch.zeros(3, 2)}, {'0.weight': torch.zeros(3, 3), '0.bias': 'text'}):
        torch.save(dict(state_dict=weights), path)
        with pytest.raises(UserError, match=rf'x\.pth: none of its {len(weights)} weights has the name and the shape'):
            run_setup.check_starting_weights(model, path)


@pytest.mark.parametrize('classes, is_same', [('a b', True), ('b a', False), ('a c', False), ('a b c', False)])
def test_class_heads_start_anew_where_classes_are_others(classes, is_same, tmp_path, capsys):
    """Also where they are as many: what is said is done."""
    names = run_setup.class_weights(tiny_config('maskrcnn_r18_fpn').model, 2)
    assert {name.split('.')[2] for name in names} == {'fc_cls', 'fc_reg', 'conv_logits'} and len(names) == 6
    weights = run_setup.MODELS.build(tiny_config('maskrcnn_r18_fpn').model).state_dict()
    path = str(tmp_path / 'x.pth')
    torch.save(dict(state_dict=dict(weights), meta=dict(dataset_meta=dict(classes=['a', 'b']))), path)
    cfg = tiny_config('maskrcnn_r18_fpn')
    cfg.custom_hooks = []
    run_setup.set_data_facts(cfg, [0] * 3, [1] * 3, classes.split())
    run_setup.start_from_checkpoint(cfg, path)
    assert ('start anew' in capsys.readouterr().out) != is_same and len(cfg.custom_hooks) == (not is_same)
    checkpoint = run_setup.read_checkpoint(path)
    for hook in cfg.custom_hooks:
        HOOKS.build(hook).after_load_checkpoint(SimpleNamespace(_resume=True), checkpoint)
        assert checkpoint['state_dict'].keys() == weights.keys()  # a run that is resumed keeps its own
        HOOKS.build(hook).after_load_checkpoint(SimpleNamespace(_resume=False), checkpoint)
    assert weights.keys() - checkpoint['state_dict'].keys() == (set() if is_same else set(names))
    if is_same:
        run_setup.check_same_classes(cfg, checkpoint, path)
    else:
        with pytest.raises(UserError, match='was trained on a, b, the data has'):
            run_setup.check_same_classes(cfg, checkpoint, path)


def test_class_weights_are_found_before_a_runner_sets_the_scope(monkeypatch):
    """As in tools/train.py, where nothing of mmdet's has been built yet."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', {})
    assert 'roi_head.bbox_head.fc_cls.weight' in run_setup.class_weights(tiny_config('maskrcnn_r18_fpn').model, 2)


def test_other_classes_are_seen_inside_wrapped_data(cfg):
    """Windows come from a wrapper, whose inner data set has the classes."""
    inner = dict(cfg.train_dataloader.dataset, metainfo=dict(classes=('b', 'a')))
    cfg.train_dataloader.dataset = ConfigDict(type='RedrawDataset', times=2, dataset=inner)
    trained = dict(meta=dict(dataset_meta=dict(classes=['a', 'b'])))
    with pytest.raises(UserError, match='was trained on a, b, the data has'):
        run_setup.check_same_classes(cfg, trained, 'x.pth')


def test_labels_of_other_classes(cfg, prepared, tmp_path):
    classes = read_json(prepared / 'statistics.json')['classes']
    run_setup.set_data_facts(cfg, [0] * 3, [1] * 3, classes)
    assert run_setup.check_test_labels(cfg, prepared)
    (tmp_path / 'annotations').mkdir()
    content = read_json(prepared / 'annotations/test.json')
    (tmp_path / 'annotations/test.json').write_text(json.dumps(dict(content, annotations=[])))
    assert not run_setup.check_test_labels(cfg, tmp_path)
    (tmp_path / 'annotations/test.json').write_text(json.dumps(dict(content, annotations=[], images=[])))
    option = r'test_dataloader\.dataset\.ann_file=annotations/val\.json'
    with pytest.raises(UserError, match=rf'lists no image; .* folder named test, .*--cfg-options {option}'):
        run_setup.check_test_labels(cfg, tmp_path)
    run_setup.set_data_facts(cfg, [0] * 3, [1] * 3, ['a', 'b'])
    with pytest.raises(UserError, match='the checkpoint predicts a, b'):
        run_setup.check_test_labels(cfg, prepared)


def test_a_threshold_below_what_the_model_returns():
    cfg = Config.fromfile(ROOT / 'configs/maskrcnn_r50_fpn_cbam_report.py')
    option = r'add to --cfg-options: model\.test_cfg\.rcnn\.score_thr=0\.3$'
    with pytest.raises(UserError, match=rf'--score-thr 0\.3: .* no detection below 0\.5; {option}'):
        run_setup.set_operating_threshold(cfg, {}, 0.3)
    run_setup.set_operating_threshold(cfg, {}, 0.5)
    # what validation chose is not the user's
    run_setup.set_operating_threshold(cfg, dict(meta=dict(operating_point=dict(score_thr=0.3, epoch=1))))
    assert cfg.test_evaluator.score_thr == 0.3
    # whether or not the config names one; of other metrics nothing is known
    cfg.test_evaluator = [dict(type='CellMetric'), dict(type='DumpResults')]
    run_setup.set_operating_threshold(cfg, {}, 0.6)
    assert cfg.test_evaluator == [dict(type='CellMetric', score_thr=0.6), dict(type='DumpResults')]
    for test_cfg in (dict(rcnn=dict(score_thr=0.05)), dict(rcnn=None), None):
        cfg.model.test_cfg = test_cfg
        run_setup.set_operating_threshold(cfg, {}, 0.3)


def test_launchers_that_did_not_start_the_process_or_cannot(cfg, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match='start the command by torchrun'):
        run_setup.set_launcher(cfg, 'pytorch', 0)
    with pytest.raises(UserError, match='slurm: needs CUDA devices'):
        run_setup.set_launcher(cfg, 'slurm', 0)


def test_augmented_testing_wraps_the_model(cfg):
    module = cfg.model.to_dict()
    cfg.tta_model.scales = [1.0, 1.5]
    run_setup.set_test_time_augmentation(cfg)
    assert cfg.model.type == 'CellTTAModel' and cfg.model.scales == [1.0, 1.5]
    assert cfg.model.module.to_dict() == module
    cfg.pop('tta_model')  # configs of older checkpoints have none
    run_setup.set_test_time_augmentation(cfg)
    assert cfg.model.type == 'CellTTAModel' and 'scales' not in cfg.model
