import pytest
from conftest import ROOT
from mmengine.config import Config

from cellseg_mm.engine import run_config
from cellseg_mm.utils import UserError

FLAGSHIP = ROOT / 'configs/maskrcnn_r50_fpn_cbam.py'


@pytest.fixture
def cfg():
    return Config.fromfile(FLAGSHIP)


def test_configs_and_seeds_that_no_run_can_have(prepared, tmp_path):
    options = dict(data_root=str(prepared))
    for seed in (-1, 2**32):
        with pytest.raises(UserError, match=f'seed {seed}: seeds go from 0 to 4294967295'):
            run_config.training_config(str(FLAGSHIP), options, seed=seed)
    stock = "data_root = 'data/coco/'\ntrain_dataloader = dict(dataset=dict(type='CocoDataset'))"
    (tmp_path / 'stock.py').write_text(stock)
    with pytest.raises(UserError, match=r'stock\.py: is no config of this project; build on one in configs/'):
        run_config.training_config(str(tmp_path / 'stock.py'), options)
    base = f"_base_ = '{FLAGSHIP.as_posix()}'\n"
    for change in (
        "custom_imports = dict(imports=['json'])",
        "train_dataloader = dict(dataset=dict(type='CocoDataset'))",
    ):
        (tmp_path / 'mine.py').write_text(base + change)
        run_config.training_config(str(tmp_path / 'mine.py'), options)


def test_augmented_testing_wraps_the_model(cfg):
    module = cfg.model.to_dict()
    cfg.tta_model.scales = [1.0, 1.5]
    run_config.set_test_time_augmentation(cfg)
    assert cfg.model.type == 'CellTTAModel' and cfg.model.scales == [1.0, 1.5]
    assert cfg.model.module.to_dict() == module
    cfg.pop('tta_model')  # configs of older checkpoints have none
    run_config.set_test_time_augmentation(cfg)
    assert cfg.model.type == 'CellTTAModel' and 'scales' not in cfg.model
