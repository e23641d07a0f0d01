"""Parts of tools/train.py; whole runs are in test_tools.py."""

import contextlib
from types import SimpleNamespace

import pytest
from conftest import ROOT, load_tool
from mmengine.config import Config

from cellseg_mm.engine.budget import Budget
from cellseg_mm.utils import UserError, write_json

CONFIG = str(ROOT / 'configs/demo/maskrcnn_r18_fpn.py')


@pytest.fixture
def train(monkeypatch):
    """The tool's module, whose trial finds that 4 epochs fit; ``asked`` lists the budgets."""
    module = load_tool('train')
    module.asked = []

    def take_schedule(rows, seeds, budget, out, tested):
        module.asked.append(budget)
        kept = (out / 'schedule.json').exists()
        return dict(epochs=7 if kept else 4) if budget or kept else None

    monkeypatch.setattr(module, 'take_schedule', take_schedule)
    monkeypatch.setattr(module, 'Row', SimpleNamespace(of=lambda *arguments: arguments))  # no data are read
    return module


def fitted_epochs(train, work_dir, budget=None, resume=False, launcher='none'):
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir, cfg.resume = str(work_dir), resume
    train.fit_epochs_to_budget(cfg, SimpleNamespace(config=CONFIG, budget=budget, launcher=launcher))
    return cfg.train_cfg.max_epochs


def test_a_new_run_chooses_its_epochs_and_a_resumed_one_keeps_them(train, tmp_path):
    budget = Budget(60)
    assert fitted_epochs(train, tmp_path) == 15 and not train.asked  # the config's
    assert fitted_epochs(train, tmp_path, budget) == 4
    write_json(tmp_path / 'schedule.json', dict(epochs=7))
    assert fitted_epochs(train, tmp_path, budget, resume=True) == fitted_epochs(train, tmp_path, resume=True) == 7
    assert fitted_epochs(train, tmp_path) == 15  # a new run without a budget, in the folder of one that had it
    assert fitted_epochs(train, tmp_path, resume=True) == 15
    assert fitted_epochs(train, tmp_path, budget) == 4  # a new run does not take the schedule of an earlier one


def test_a_work_dir_is_of_one_training(train, tmp_path, monkeypatch):
    """Another one would mix its checkpoints in. What a killed one left is removed; only the first process does both."""
    cfg = Config(dict(work_dir=str(tmp_path), launcher='none'))
    left = tmp_path / '.epoch_3.pth.4711.partial'

    @contextlib.contextmanager
    def taken(path, busy):
        raise UserError(f'{path.name} {busy}')
        yield

    left.touch()
    with train.own_work_dir(cfg):
        assert [path.name for path in tmp_path.iterdir()] == ['.train.lock']
    assert not list(tmp_path.iterdir())
    left.touch()
    monkeypatch.setattr(train, 'claimed', taken)
    with pytest.raises(UserError, match=r'\.train\.lock .*: another training writes there; wait for it, or choose'):
        train.own_work_dir(cfg).__enter__()
    cfg.launcher = 'pytorch'
    monkeypatch.setenv('RANK', '1')
    with train.own_work_dir(cfg):
        assert left.exists()


def test_a_budget_is_refused_under_a_launcher(train, tmp_path):
    with pytest.raises(UserError, match='--budget is for one process; for several run tools/ablate'):
        fitted_epochs(train, tmp_path, Budget(60), launcher='pytorch')
