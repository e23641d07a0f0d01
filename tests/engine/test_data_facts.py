import json
import shutil

import pytest
from conftest import read_json
from mmengine.config import Config, ConfigDict

from cellseg_mm.engine import data_facts
from cellseg_mm.evaluation import read_tested
from cellseg_mm.utils import UserError, scored_dataset


def test_data_root_goes_everywhere(cfg, prepared):
    cfg.data_root = str(prepared)
    assert data_facts.set_data_root(cfg) == prepared
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
    data_facts.fill_from_prepared_data(cfg)
    assert cfg.val_evaluator.ann_file == str(prepared / 'annotations/val.json')
    assert cfg.test_evaluator.ann_file == str(prepared / 'annotations/test.json')
    assert data_facts.check_test_labels(cfg, prepared)
    tested = read_tested(cfg.test_dataloader.dataset)
    assert tested['images'] == read_json(prepared / 'annotations/test.json')['images']
    wrap(cfg, 'test', 'annotations/val.json', 'annotations/test.json')
    with pytest.raises(UserError, match=r'over 2 data sets \(annotations/val\.json, annotations/test\.json\)'):
        data_facts.set_data_root(cfg)


@pytest.mark.parametrize('split', ['train', 'test'])
def test_a_second_data_root_is_refused(cfg, prepared, split):
    """It would be left out: the run would train on, or be tested on, the first set alone."""
    cfg.data_root = str(prepared)
    wrap(cfg, split, *['annotations/train.json'] * (2 if split == 'train' else 1))
    inner = cfg[f'{split}_dataloader'].dataset.dataset.datasets[-1]
    inner.data_root = 'data/cells'  # as the others, but for the slash
    data_facts.set_data_root(cfg)
    inner.data_root = 'data/other/'
    message = rf'has the data_root {prepared}, {split}_dataloader has data/other, but a run has one'
    with pytest.raises(UserError, match=message):
        data_facts.set_data_root(cfg)


def test_a_set_of_unknown_classes_keeps_its_own_root(cfg, prepared, tmp_path):
    cfg.data_root = str(prepared)
    other = tmp_path / 'nuclei'
    shutil.copytree(prepared, other)
    own = cfg.train_dataloader.dataset.to_dict()
    lent = dict(own, data_root=str(other), unknown_class=True)
    cfg.train_dataloader.dataset = ConfigDict(type='ConcatDataset', datasets=[own, lent])
    data_facts.set_data_root(cfg)
    assert [entry.data_root for entry in cfg.train_dataloader.dataset.datasets] == [f'{prepared}/', f'{other}/']
    cfg.train_dataloader.dataset.datasets[1].data_root = str(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match='elsewhere: no prepared data set there'):
        data_facts.set_data_root(cfg)


def test_data_root_relative_to_the_current_directory(cfg, prepared, monkeypatch):
    monkeypatch.chdir(prepared.parent)
    cfg.data_root = prepared.name
    assert data_facts.set_data_root(cfg) == prepared
    (prepared.parent / '2024').symlink_to(prepared)
    cfg.data_root = 2024  # of --cfg-options data_root=2024
    assert data_facts.set_data_root(cfg) == prepared.parent / '2024'
    (prepared.parent / '2024').unlink()


def test_no_data_names_the_command(cfg, tmp_path):
    cfg.data_root = str(tmp_path)
    with pytest.raises(UserError, match=r'tools/prepare_data\.py SOURCE --out'):
        data_facts.set_data_root(cfg)


def test_a_prepared_set_that_is_cut_off(cfg, tmp_path):
    (tmp_path / 'annotations').mkdir()
    for name in ('statistics.json', 'annotations/test.json'):
        (tmp_path / name).write_text('')
    cfg.data_root = str(tmp_path)
    with pytest.raises(UserError, match=r'statistics\.json: is not valid JSON .*tools/prepare_data\.py'):
        data_facts.fill_from_prepared_data(cfg)
    with pytest.raises(UserError, match=r'test\.json: is not valid JSON .*tools/prepare_data\.py'):
        data_facts.check_test_labels(cfg, tmp_path)


def test_facts_of_the_data_fill_the_config(cfg):
    data_facts.set_data_facts(cfg, [1, 2, 3], [4, 5, 6], ['a', 'b'])
    assert cfg.model.data_preprocessor.mean == [1, 2, 3] and cfg.model.data_preprocessor.std == [4, 5, 6]
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 2
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.metainfo.classes == ('a', 'b')
    assert Config.fromstring(cfg.pretty_text, '.py').model.data_preprocessor.mean == [1, 2, 3]


def test_channel_order_of_the_source_travels_with_the_checkpoint(cfg, prepared):
    cfg.data_root = str(prepared)
    old = dict(meta=dict(cfg=cfg.pretty_text))
    data_facts.fill_from_prepared_data(cfg)
    assert data_facts.checkpoint_channel_order(dict(meta=dict(cfg=cfg.pretty_text)), 'x.pth') == 'bgr'
    with pytest.raises(UserError, match=r'x\.pth: does not say .* --channel-order rgb or bgr'):
        data_facts.checkpoint_channel_order(old, 'x.pth')


def test_the_pixel_size_travels_with_the_checkpoint(cfg, prepared, tmp_path, capsys):
    statistics = read_json(prepared / 'statistics.json')
    assert statistics['pixel_size'] is None
    cfg.data_root = str(prepared)
    data_facts.fill_from_prepared_data(cfg)
    assert data_facts.checkpoint_pixel_size(dict(meta=dict(cfg=cfg.pretty_text)), 'x.pth') is None
    shutil.copytree(prepared, tmp_path / 'cells')
    (tmp_path / 'cells/statistics.json').write_text(json.dumps(dict(statistics, pixel_size=0.5)))
    cfg.data_root = str(tmp_path / 'cells')
    data_facts.fill_from_prepared_data(cfg)
    checkpoint = dict(meta=dict(cfg=cfg.pretty_text))
    assert data_facts.checkpoint_pixel_size(checkpoint, 'x.pth') == 0.5
    capsys.readouterr()
    for root in (tmp_path / 'cells', prepared):  # the same; unknown
        data_facts.warn_of_other_pixel_size(root, checkpoint, 'x.pth')
        assert capsys.readouterr().out == ''
    (tmp_path / 'cells/statistics.json').write_text(json.dumps(dict(statistics, pixel_size=0.25)))
    data_facts.warn_of_other_pixel_size(tmp_path / 'cells', checkpoint, 'x.pth')
    message = f'warning: {tmp_path}/cells: its images have 0.25 um a px, the training images of x.pth had 0.5\n'
    assert capsys.readouterr().out == message
    for meta in ({}, dict(cfg='import os'), dict(cfg='x = f(1)')):  # of other programs
        data_facts.warn_of_other_pixel_size(tmp_path / 'cells', dict(meta=meta), 'x.pth')
        assert capsys.readouterr().out == ''
    del statistics['pixel_size']  # of an older version
    (tmp_path / 'cells/statistics.json').write_text(json.dumps(statistics))
    data_facts.fill_from_prepared_data(cfg)
    assert cfg.pixel_size is None


@pytest.mark.parametrize('meta', [{}, dict(cfg='import os', dataset_meta=dict(classes=['a']))])
def test_checkpoints_without_a_config(meta):
    with pytest.raises(UserError, match=r'carries no config of tools/train\.py'):
        data_facts.checkpoint_data_facts(dict(meta=meta), 'x.pth')


def test_labels_of_other_classes(cfg, prepared, tmp_path):
    classes = read_json(prepared / 'statistics.json')['classes']
    data_facts.set_data_facts(cfg, [0] * 3, [1] * 3, classes)
    assert data_facts.check_test_labels(cfg, prepared)
    (tmp_path / 'annotations').mkdir()
    content = read_json(prepared / 'annotations/test.json')
    (tmp_path / 'annotations/test.json').write_text(json.dumps(dict(content, annotations=[])))
    assert not data_facts.check_test_labels(cfg, tmp_path)
    (tmp_path / 'annotations/test.json').write_text(json.dumps(dict(content, annotations=[], images=[])))
    option = r'test_dataloader\.dataset\.ann_file=annotations/val\.json'
    with pytest.raises(UserError, match=rf'lists no image; .* folder named test, .*--cfg-options {option}'):
        data_facts.check_test_labels(cfg, tmp_path)
    data_facts.set_data_facts(cfg, [0] * 3, [1] * 3, ['a', 'b'])
    with pytest.raises(UserError, match='the checkpoint predicts a, b'):
        data_facts.check_test_labels(cfg, prepared)
