from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from mmdet.registry import HOOKS, MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from tiny_detector import tiny_config

from cellseg_mm.engine import checkpoint, data_facts, starting_weights
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.utils import UserError


@pytest.mark.parametrize('name', ['maskrcnn_r50', 'maskrcnn_r50_fpn', 'maskrcnn_r50_fpn_cbam'])
def test_from_scratch_freezes_nothing_in_any_row(name):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    cfg.load_from = 'x.pth'
    starting_weights.train_from_scratch(cfg)
    backbone = cfg.model.backbone
    assert cfg.load_from is None
    assert backbone.init_cfg is None and backbone.frozen_stages == -1 and backbone.norm_eval is False


def test_backbone_weights(cfg, tmp_path):
    with pytest.raises(UserError, match='no such file of backbone weights'):
        starting_weights.use_backbone_weights(cfg, str(tmp_path / 'x.pth'))
    (tmp_path / 'x.pth').touch()
    cfg.load_from = 'y.pth'
    starting_weights.use_backbone_weights(cfg, str(tmp_path / 'x.pth'))
    assert cfg.load_from is None
    assert cfg.model.backbone.init_cfg.checkpoint == str(tmp_path / 'x.pth')


def test_no_network_names_the_switches(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))

    def refuse(*_):
        raise OSError('no route')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', refuse)
    with pytest.raises(UserError, match=r'--backbone-weights FILE.*--from-scratch'):
        starting_weights.fetch_backbone_weights(cfg)
    (tmp_path / 'checkpoints').mkdir(exist_ok=True)
    (tmp_path / 'checkpoints' / cfg.model.backbone.init_cfg.checkpoint.rsplit('/', 1)[1]).touch()
    starting_weights.fetch_backbone_weights(cfg)  # cached: nothing to fetch


def test_equal_names_at_two_addresses_are_two_files(tmp_path, monkeypatch):
    """Unless the name has a part of the file's SHA-256: then both are the same file."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(
        checkpoint, '_download', lambda url, path: (path.parent.mkdir(exist_ok=True), path.write_text(url))
    )
    (tmp_path / 'checkpoints').mkdir()
    urls = [f'https://example.org/{run}/best.pth' for run in 'ab'] * 2
    assert [checkpoint.fetch(url).read_text() for url in urls] == urls
    urls = [f'https://example.org/{mirror}/resnet-0676ba61.pth' for mirror in 'ab']
    assert [checkpoint.fetch(url).read_text() for url in urls] == urls[:1] * 2


def test_one_process_of_a_machine_fetches_for_all(cfg, tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(checkpoint, '_download', lambda url, path: fetched.append(path))
    for rank, count in (('1', 0), ('0', 1)):
        monkeypatch.setenv('LOCAL_RANK', rank)
        starting_weights.fetch_backbone_weights(cfg)
        assert len(fetched) == count


def test_weights_of_another_model():
    model = torch.nn.Linear(2, 3)
    starting_weights.check_weights_fit(model, dict(state_dict=model.state_dict()), 'a.py', 'x.pth')
    with pytest.raises(UserError, match=r'weight is \(3, 4\) in the checkpoint, \(3, 2\) in the model'):
        starting_weights.check_weights_fit(model, dict(state_dict=torch.nn.Linear(4, 3).state_dict()), 'a.py', 'x.pth')
    with pytest.raises(UserError, match='weight is absent'):
        starting_weights.check_weights_fit(model, dict(state_dict={}), 'a.py', 'x.pth')
    more = dict(model.state_dict(), attention=torch.zeros(1))
    with pytest.raises(UserError, match='which has no attention'):
        starting_weights.check_weights_fit(model, dict(state_dict=more), 'a.py', 'x.pth')


def test_weights_to_start_from(tmp_path, capsys):
    model, path = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4)), str(tmp_path / 'x.pth')
    head_of_other_classes = {'1.weight': torch.zeros(5, 3), '1.bias': torch.zeros(5)}
    matching = dict(model.state_dict(), **head_of_other_classes)
    for weights in (matching, {f'module.{name}': value for name, value in matching.items()}):
        torch.save(dict(state_dict=weights), path)
        starting_weights.check_starting_weights(model, path)
        assert capsys.readouterr().out == f"{path}: 2 of the model's 4 weights come from this file\n"
    for weights in ({}, {'encoder.weight': torch.zeros(3, 2)}, {'0.weight': torch.zeros(3, 3), '0.bias': 'text'}):
        torch.save(dict(state_dict=weights), path)
        with pytest.raises(UserError, match=rf'x\.pth: none of its {len(weights)} weights has the name and the shape'):
            starting_weights.check_starting_weights(model, path)


@pytest.mark.parametrize('classes, is_same', [('a b', True), ('b a', False), ('a c', False), ('a b c', False)])
def test_class_heads_start_anew_where_classes_are_others(classes, is_same, tmp_path, capsys):
    """Also where they are as many: what is said is done."""
    names = starting_weights.class_weights(tiny_config('maskrcnn_r18_fpn').model, 2)
    assert {name.split('.')[2] for name in names} == {'fc_cls', 'fc_reg', 'conv_logits'} and len(names) == 6
    weights = MODELS.build(tiny_config('maskrcnn_r18_fpn').model).state_dict()
    path = str(tmp_path / 'x.pth')
    torch.save(dict(state_dict=dict(weights), meta=dict(dataset_meta=dict(classes=['a', 'b']))), path)
    cfg = tiny_config('maskrcnn_r18_fpn')
    cfg.custom_hooks = []
    data_facts.set_data_facts(cfg, [0] * 3, [1] * 3, classes.split())
    starting_weights.start_from_checkpoint(cfg, path)
    assert ('start anew' in capsys.readouterr().out) != is_same and len(cfg.custom_hooks) == (not is_same)
    checkpoint = read_checkpoint(path)
    for hook in cfg.custom_hooks:
        HOOKS.build(hook).after_load_checkpoint(SimpleNamespace(_resume=True), checkpoint)
        assert checkpoint['state_dict'].keys() == weights.keys()  # a run that is resumed keeps its own
        HOOKS.build(hook).after_load_checkpoint(SimpleNamespace(_resume=False), checkpoint)
    assert weights.keys() - checkpoint['state_dict'].keys() == (set() if is_same else set(names))
    if is_same:
        starting_weights.check_same_classes(cfg, checkpoint, path)
    else:
        with pytest.raises(UserError, match='was trained on a, b, but the data have'):
            starting_weights.check_same_classes(cfg, checkpoint, path)


def test_class_weights_are_found_before_a_runner_sets_the_scope(monkeypatch):
    """As in tools/train.py, where nothing of mmdet's has been built yet."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', {})
    assert 'roi_head.bbox_head.fc_cls.weight' in starting_weights.class_weights(
        tiny_config('maskrcnn_r18_fpn').model, 2
    )


def test_other_classes_are_seen_inside_wrapped_data(cfg):
    """Windows come from a wrapper, whose inner data set has the classes."""
    inner = dict(cfg.train_dataloader.dataset, metainfo=dict(classes=('b', 'a')))
    cfg.train_dataloader.dataset = ConfigDict(type='RedrawDataset', times=2, dataset=inner)
    trained = dict(meta=dict(dataset_meta=dict(classes=['a', 'b'])))
    with pytest.raises(UserError, match='was trained on a, b, but the data have'):
        starting_weights.check_same_classes(cfg, trained, 'x.pth')
