import json
import shutil

import pytest
import torch
from conftest import FLAGSHIP, ROOT, read_json
from tiny_detector import CLASSES, MEAN, POINT, STD, WIDTH

from cellseg_mm.engine import data_facts, run_config
from cellseg_mm.engine.detector import input_pipeline
from cellseg_mm.utils import UserError


def test_configs_and_seeds_that_no_run_can_have(prepared, tmp_path):
    options = dict(data_root=str(prepared))
    for seed in (-1, 2**32):
        with pytest.raises(UserError, match=f'seed {seed}: seeds go from 0 to 4294967295'):
            run_config.training_config(str(FLAGSHIP), options, seed=seed)
    stock = "data_root = 'data/coco/'\ntrain_dataloader = dict(dataset=dict(type='CocoDataset'))"
    (tmp_path / 'stock.py').write_text(stock)
    with pytest.raises(UserError, match=r'stock\.py: not a config of this project; build on one in configs/'):
        run_config.training_config(str(tmp_path / 'stock.py'), options)
    base = f"_base_ = '{FLAGSHIP.as_posix()}'\n"
    for change in (
        "custom_imports = dict(imports=['json'])",
        "train_dataloader = dict(dataset=dict(type='CocoDataset'))",
    ):
        (tmp_path / 'mine.py').write_text(base + change)
        run_config.training_config(str(tmp_path / 'mine.py'), options)


def test_a_start_from_cells_of_another_pixel_size_is_said(prepared, tiny_checkpoint, tmp_path, capsys):
    shutil.copytree(prepared, tmp_path / 'cells')
    statistics = read_json(prepared / 'statistics.json')
    (tmp_path / 'cells/statistics.json').write_text(json.dumps(dict(statistics, pixel_size=0.25)))
    content = torch.load(tiny_checkpoint, weights_only=False)
    content['meta']['cfg'] += '\npixel_size = 0.5\n'
    torch.save(content, tmp_path / 'half.pth')
    for weights, said in ((tiny_checkpoint, False), (tmp_path / 'half.pth', True)):
        options = dict(data_root=str(tmp_path / 'cells'))
        run_config.training_config(str(FLAGSHIP), options, work_dir=str(tmp_path), load_from=str(weights))
        message = f'images have 0.25 um a px, the training images of {weights} had 0.5'
        assert (message in capsys.readouterr().out) == said


def test_a_stock_config_that_only_imports_this_package_is_refused(prepared, tmp_path):
    """In one line, with what to inherit; also with a prepared data set."""
    path = tmp_path / 'stock.py'
    path.write_text(
        "_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'\ncustom_imports = dict(imports=['cellseg_mm'])\n"
    )
    for options in ({}, dict(data_root=str(prepared))):
        with pytest.raises(
            UserError, match=r'^\S*stock\.py: has no randomness; inherit configs/_base_/default_preset\.py'
        ):
            run_config.training_config(str(path), options)


def test_a_config_without_a_detector_of_instances_is_refused(prepared, tmp_path):
    path = tmp_path / 'boxes.py'
    path.write_text(
        f"_base_ = '{ROOT.as_posix()}/configs/_base_/default_preset.py'\n"
        "model = dict(type='RetinaNet', backbone={}, data_preprocessor={}, bbox_head=dict(num_classes=4))\n"
    )
    with pytest.raises(UserError, match=r'^\S*boxes\.py: RetinaNet predicts boxes without masks'):
        run_config.training_config(str(path), dict(data_root=str(prepared)))


def test_augmented_testing_wraps_the_model(cfg):
    module = cfg.model.to_dict()
    cfg.tta_model.scales = [1.0, 1.5]
    run_config.set_test_time_augmentation(cfg)
    assert cfg.model.type == 'CellTTAModel' and cfg.model.scales == [1.0, 1.5]
    assert cfg.model.module.to_dict() == module
    cfg.pop('tta_model')  # configs of older checkpoints have none
    run_config.set_test_time_augmentation(cfg)
    assert cfg.model.type == 'CellTTAModel' and 'scales' not in cfg.model


def test_a_test_has_the_facts_of_its_checkpoint(tiny_checkpoint):
    options = {'test_dataloader.num_workers': 0, 'model.data_preprocessor.mean': [1, 2, 3]}
    cfg, content = run_config.testing_config(str(tiny_checkpoint), str(FLAGSHIP), options)
    assert cfg.test_dataloader.num_workers == 0
    assert (cfg.model.data_preprocessor.mean, cfg.model.data_preprocessor.std) == (MEAN, STD)  # also over the options
    assert cfg.num_classes == cfg.model.roi_head.bbox_head.num_classes == 3
    assert cfg.test_dataloader.dataset.metainfo.classes == tuple(CLASSES)
    assert cfg.model.backbone.init_cfg is None and cfg.load_from == str(tiny_checkpoint)
    assert content['meta']['operating_point'] == POINT and 'state_dict' in content


def test_a_test_needs_a_checkpoint_of_a_training(tmp_path):
    with pytest.raises(UserError, match=r'x\.pth: no such checkpoint'):
        run_config.testing_config(str(tmp_path / 'x.pth'), str(FLAGSHIP))
    torch.save(dict(state_dict={}, meta={}), tmp_path / 'x.pth')
    with pytest.raises(UserError, match=r'x\.pth: carries no config of tools/train\.py'):
        run_config.testing_config(str(tmp_path / 'x.pth'), str(FLAGSHIP))


def test_a_checkpoint_is_enough(tiny_checkpoint):
    options = {'model.test_cfg.rcnn.max_per_img': 7}
    cfg, content = run_config.testing_config(str(tiny_checkpoint), options=options)
    assert cfg.load_from == str(tiny_checkpoint)
    config = ROOT / 'configs/demo/maskrcnn_r18_fpn_cbam.py'
    other, _ = run_config.testing_config(str(tiny_checkpoint), str(config), options)
    facts = cfg.model.data_preprocessor.mean, cfg.test_dataloader.dataset.metainfo.classes
    assert facts == (other.model.data_preprocessor.mean, other.test_dataloader.dataset.metainfo.classes)
    assert cfg.model.test_cfg.rcnn.max_per_img == other.model.test_cfg.rcnn.max_per_img == 7
    assert facts[1] == tuple(content['meta']['dataset_meta']['classes'])
    assert (cfg.model.backbone.base_channels, other.model.backbone.get('base_channels', 64)) == (WIDTH // 2, 64)
    assert input_pipeline(cfg) == input_pipeline(other)


@pytest.mark.parametrize(
    ('meta', 'expected'), [({}, 'best.py'), (dict(experiment_name='my_row_20261128_101500'), 'my_row.py')]
)
def test_the_config_keeps_its_name(tiny_checkpoint, tmp_path, meta, expected):
    content = torch.load(tiny_checkpoint, weights_only=False)
    content['meta'].pop('experiment_name', None)
    content['meta'].update(meta)
    torch.save(content, tmp_path / 'best.pth')
    cfg, _ = run_config.testing_config(str(tmp_path / 'best.pth'))
    assert cfg.filename == expected


def test_the_runtime_of_a_checkpoint_is_not_run(tiny_checkpoint, tmp_path):
    """Hooks, evaluators and data sets of a stranger's config could be any program."""
    content = torch.load(tiny_checkpoint, weights_only=False)
    content['meta']['cfg'] += "\ncustom_hooks = [dict(type='os.abort')]\ntest_evaluator = dict(type='os.abort')\n"
    torch.save(content, tmp_path / 'x.pth')
    cfg, _ = run_config.testing_config(str(tmp_path / 'x.pth'))
    assert 'os.abort' not in cfg.pretty_text and cfg.custom_hooks and cfg.test_evaluator.type == 'CellMetric'


def save_run(path, classes='ab', **parts):
    """A checkpoint of a run on the CPU, without weights."""
    trained = "optim_wrapper = dict(type='CPUAmpOptimWrapper', dtype='bfloat16')\nnum_threads = 3\n"
    meta = dict(cfg=trained, dataset_meta=dict(classes=tuple(classes)))
    torch.save(dict(dict(state_dict={}, optimizer={}, meta=meta), **parts), path)
    return str(path)


@pytest.fixture
def new_run(cfg, tmp_path):
    """The config of a run on the classes a and b that starts from other weights; its work dir is empty."""
    data_facts.set_data_facts(cfg, MEAN, STD, ['a', 'b'])
    cfg.work_dir, cfg.load_from = str(tmp_path), 'weights.pth'
    return cfg


def test_a_new_run_starts_from_its_own_weights(new_run):
    for given in (None, 'auto'):
        assert run_config.resume_run(new_run, given) is None
        assert not new_run.resume and new_run.load_from == 'weights.pth'
        assert new_run.optim_wrapper.type == 'AmpOptimWrapper' and 'num_threads' not in new_run


@pytest.mark.parametrize(
    'given, config, resumed',
    [
        ('auto', {}, 'epoch_2.pth'),
        ('epoch_1.pth', {}, 'epoch_1.pth'),
        (None, dict(resume=True, load_from=None), 'epoch_2.pth'),
        (None, dict(resume=True, load_from='epoch_1.pth'), 'epoch_1.pth'),
        ('auto', dict(load_from='epoch_1.pth'), 'epoch_2.pth'),
    ],
)
def test_a_run_resumes_from_its_checkpoint_in_its_precision(new_run, tmp_path, monkeypatch, given, config, resumed):
    monkeypatch.chdir(tmp_path)
    new_run.update(config)
    for epoch in (1, 2):
        save_run(tmp_path / f'epoch_{epoch}.pth', epoch=epoch)
    checkpoint = run_config.resume_run(new_run, given)
    assert resumed == f'epoch_{checkpoint["epoch"]}.pth'
    assert new_run.resume and (tmp_path / new_run.load_from).samefile(resumed)
    assert new_run.optim_wrapper.type == 'CPUAmpOptimWrapper' and new_run.optim_wrapper.dtype == 'bfloat16'
    assert new_run.num_threads == 3


def test_checkpoints_that_no_run_can_resume_from(new_run, tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'x.pth')
    with pytest.raises(UserError, match=r'x\.pth: holds weights, but no run to resume; .*--load-from'):
        run_config.resume_run(new_run, str(tmp_path / 'x.pth'))
    for classes in ('ba', 'abc'):
        with pytest.raises(UserError, match=rf'x\.pth: was trained on {", ".join(classes)}, but the data have a, b'):
            run_config.resume_run(new_run, save_run(tmp_path / 'x.pth', classes))
