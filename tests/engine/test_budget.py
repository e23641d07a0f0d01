import argparse
import functools
import json
import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, read_json
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from cellseg_mm.engine import ablation, run_config
from cellseg_mm.engine.budget import Budget, Pace, epochs_within, read_pace, set_epochs, take_schedule
from cellseg_mm.utils import UserError, write_atomically, write_json

ROWS = ['maskrcnn_r50', 'maskrcnn_r50_fpn', 'maskrcnn_r50_fpn_cbam']


def test_a_runs_time_in_closed_form():
    """7 epochs of 5 steps, validated after 3, 6 and 7."""
    pace = Pace(start=10, step=2, steps=5, epoch_end=1, validation=100, test=1000)
    assert pace.of_run(epochs=7, val_interval=3) == 2 * 10 + 7 * (2 * 5 + 1) + 3 * 100 + 1000
    assert pace.of_run(epochs=6, val_interval=3) == 2 * 10 + 6 * (2 * 5 + 1) + 2 * 100 + 1000
    assert pace.of_training(epochs=6, val_interval=3) == 10 + 6 * (2 * 5 + 1) + 2 * 100


@pytest.mark.parametrize(
    'text, budget',
    [('90s', Budget(90)), ('20m', Budget(1200)), ('1.5h', Budget(5400)), ('0.5core-h', Budget(1800, of_cores=True))],
)
def test_budgets_are_read(text, budget):
    assert Budget.parse(text) == budget


@pytest.mark.parametrize('text', ['2', '2 h', '-1h', 'h', '2core', '1d'])
def test_other_budgets_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f'{text}: a budget is a number and s, m, h or core-h'):
        Budget.parse(text)


def test_the_first_steps_of_a_trial_do_not_count():
    """30 steps, of which the first 10 take 5 s each and the others 0.5 s; of 4 the first 2 are left out."""
    steps = [100 + 5 * min(n, 10) + 0.5 * max(n - 10, 0) for n in range(1, 31)]
    times = dict(began=100, steps=steps, trained=steps[-1] + 3, validated=steps[-1] + 7)
    pace = read_pace(times, launched=92, steps=176, test_share=3.5)
    assert pace == Pace(start=8, step=pytest.approx(0.5), steps=176, epoch_end=3, validation=4, test=14)
    times = dict(began=0, steps=[9, 18, 19, 20], trained=20, validated=20)
    assert read_pace(times, launched=0, steps=4, test_share=1).step == 1


def test_the_slowest_row_decides():
    paces = {name: Pace(5, step, 10, 0, 0, 0) for name, step in (('fast', 1), ('slow', 2), ('middle', 1.5))}
    assert epochs_within(50, paces, val_interval=1) == 2  # 2 * 5 + 2 * 20
    assert epochs_within(49.9, paces, val_interval=1) == 1
    assert epochs_within(30, paces, val_interval=1) == 1
    with pytest.raises(UserError, match=r'leaves 29 s for a run, and slow needs 30 s for one epoch and its test;'):
        epochs_within(29, paces, val_interval=1)
    assert epochs_within(45, paces, val_interval=1, tested=False) == 2  # 5 + 2 * 20
    with pytest.raises(UserError, match=r'leaves 24 s for a run, and slow needs 25 s for one epoch;'):
        epochs_within(24, paces, val_interval=1, tested=False)


def with_epochs(cfg, epochs):
    """As by ``--cfg-options train_cfg.max_epochs=7``."""
    cfg.merge_from_dict({'train_cfg.max_epochs': epochs})


@pytest.mark.parametrize('change', [set_epochs, with_epochs])
@pytest.mark.parametrize('name', [ROWS[2], 'demo/maskrcnn_r18_fpn_cbam', f'consep/{ROWS[2]}'])
def test_the_learning_rate_ends_with_the_last_epoch(name, change):
    """MMEngine's own scheduler, stepped to its end, has come down the whole cosine but for its last step."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    change(cfg, 7)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2e-4)
    settings = dict(end=cfg.train_cfg.max_epochs, **cfg.param_scheduler[-1])  # the end is put in by the Runner
    cosine, steps = PARAM_SCHEDULERS.get(settings.pop('type')), 7
    if settings.pop('convert_to_iter_based', False):
        cosine, steps = functools.partial(cosine.build_iter_from_epoch, epoch_length=4), 28
    scheduler = cosine(optimizer=optimizer, **settings)
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
    expected = 5e-6 + (2e-4 - 5e-6) * (1 + math.cos(math.pi * (steps - 1) / steps)) / 2
    assert optimizer.param_groups[0]['lr'] == pytest.approx(expected)


@pytest.fixture
def rows(prepared):
    configs = [str(ROOT / 'configs' / f'{name}.py') for name in ROWS]
    return [
        ablation.Row.of(config, run_config.training_config(config, dict(data_root=str(prepared)), from_scratch=True))
        for config in configs
    ]


@pytest.fixture
def trials(monkeypatch):
    """Trials by a clock of their own: starts of 10 s, then 20 steps; names of the rows that were tried.

    They use half of a core, and so by core-seconds all takes half the time. A row named in ``broken`` fails.
    """
    clock = SimpleNamespace(now=1000.0, tried=[], broken=None)
    steps = dict(zip(ROWS, (2.0, 1.0, 1.5), strict=True))

    def run_tool(command, log, lock, poll, processes=1):
        folder = command[1].parent
        text = (folder / 'config.py').read_text()
        assert 'max_epochs=1' in text and "type='StopwatchHook'" in text
        name = folder.name.rsplit('-', 1)[0]
        clock.tried.append(name)
        if name == clock.broken:
            raise KeyboardInterrupt
        launched, step = clock.now, steps[name]
        marks = [10 + step * number for number in range(1, 21)]
        clock.now += marks[-1] + 3

        def times(count):
            ends = dict(trained=count(marks[-1] + 1), validated=count(marks[-1] + 3))
            return dict(began=count(10), steps=[count(mark) for mark in marks], **ends)

        counts = dict(clock=times(lambda mark: launched + mark), cores=times(lambda mark: mark / 2))
        write_json(folder / 'stopwatch.json', counts)

    monkeypatch.setattr('cellseg_mm.engine.budget.run_tool', run_tool)
    monkeypatch.setattr('cellseg_mm.engine.budget.time', SimpleNamespace(time=lambda: clock.now))
    return clock


def test_trials_are_taken_off_the_budget_and_their_schedule_is_kept(rows, trials, prepared, tmp_path):
    """3 trials take 39 + 20 * 4.5 = 129 s; of the slowest row's 4 epochs a step takes 2 s, the end 1 + 2 s."""
    train, val, test = (
        len(read_json(prepared / f'annotations/{split}.json')['images']) for split in ('train', 'val', 'test')
    )
    run = 2 * 10 + 4 * (-(-train // 2) * 2 + 3) + 2 * test / val
    chosen = take_schedule(rows, 1, Budget(129 + 3 * run + 0.01), tmp_path)
    assert chosen['epochs'] == 4
    assert trials.tried == ROWS and not (tmp_path / 'trials').exists()
    assert chosen['trials'][ROWS[0]]['step'] == pytest.approx(2) and chosen['device'] and chosen['versions']

    # from now on it is the schedule there: more seeds, another time, or none
    for budget in (Budget(1), Budget(99999, of_cores=True), None):
        assert take_schedule(rows[:1], 5, budget, tmp_path) == json.loads(json.dumps(chosen))
    assert trials.tried == ROWS
    assert take_schedule(rows, 1, None, tmp_path / 'other') is None


def test_training_alone_needs_no_labels_for_testing(rows, trials, prepared, tmp_path):
    """As tools/train.py --budget on a set whose test split has no labels, or no image."""
    root = shutil.copytree(prepared, tmp_path / 'cells')
    path = root / 'annotations/test.json'
    write_json(path, dict(read_json(path), images=[], annotations=[]))
    for row in rows:
        row.cfg.test_dataloader.dataset.data_root = f'{root}/'
    assert take_schedule(rows, 1, Budget(600), tmp_path / 'out', tested=False)['epochs'] > 1
    with pytest.raises(UserError, match=r'test\.json: holds no annotations'):
        take_schedule(rows, 1, Budget(600), tmp_path / 'tested')


def test_schedulers_may_be_one_or_none():
    for scheduler in (None, dict(type='CosineAnnealingLR', T_max=9)):
        cfg = Config(dict(train_cfg=dict(max_epochs=9), param_scheduler=scheduler))
        set_epochs(cfg, 4)
        assert cfg.train_cfg.max_epochs == 4 and (scheduler is None or cfg.param_scheduler.T_max == 4)


def test_core_hours_count_training_alone(rows, trials, prepared, tmp_path):
    """Neither trials nor tests; a step of the slowest row takes a core-second, the end 0.5 + 1, the start 5."""
    train = len(read_json(prepared / 'annotations/train.json')['images'])
    run = 5 + 4 * (-(-train // 2) * 1 + 0.5 + 1)
    for missing, epochs in ((0, 4), (0.01, 3)):
        budget = Budget(3 * run - missing + 1e-6, of_cores=True)
        chosen = take_schedule(rows, 1, budget, tmp_path / str(missing))
        assert chosen['epochs'] == epochs and chosen['of_cores']


def test_a_call_that_is_cut_off_keeps_its_trials(rows, trials, tmp_path):
    """The second call tries the rest, and takes the time of the first one's off the budget, too."""
    trials.broken = ROWS[1]
    with pytest.raises(KeyboardInterrupt):
        take_schedule(rows, 1, Budget(600), tmp_path / 'cut')
    trials.broken = None
    trials.now += 500  # until it is called again
    chosen = take_schedule(rows, 1, Budget(600), tmp_path / 'cut')
    assert trials.tried == [ROWS[0], ROWS[1], ROWS[1], ROWS[2]]
    assert chosen['epochs'] == take_schedule(rows, 1, Budget(600), tmp_path / 'whole')['epochs'] > 1


def test_a_trial_of_a_long_epoch_is_short(rows, trials, monkeypatch, tmp_path):
    """Three steps are tried, and the epoch counts with all of its own."""
    settings = []
    monkeypatch.setattr('cellseg_mm.engine.budget.TRIAL_STEPS', 3)
    monkeypatch.setattr(
        'cellseg_mm.engine.budget.write_atomically',
        lambda path, text: settings.append(text) or write_atomically(path, text),
    )
    chosen = take_schedule(rows, 1, Budget(6000), tmp_path)
    assert all('num_batch_per_epoch=3' in text for text in settings) and len(settings) == 3
    assert chosen['trials'][ROWS[0]]['steps'] > 3


def test_a_budget_that_is_too_short_leaves_no_schedule(rows, trials, tmp_path):
    with pytest.raises(UserError, match=f'leaves 0 s for a run, and {ROWS[0]} needs'):
        take_schedule(rows, 1, Budget(60), tmp_path)
    assert not (tmp_path / 'schedule.json').exists()
