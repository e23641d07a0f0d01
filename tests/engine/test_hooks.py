"""Small hooks: seeds, the score threshold, validation on resuming, and the printed line."""

import statistics
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, build_dataset, read_json
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub

from cellseg_mm.engine import (
    CoreHoursHook,
    FreezeBatchNormHook,
    InputScaleHook,
    OperatingPointHook,
    ResumeValidationHook,
    SeedHook,
    score_threshold,
)
from cellseg_mm.engine.hooks import core_hours_hook
from cellseg_mm.engine.log_processor import HeadlineLogProcessor


def draw(seed, iteration):
    SeedHook().before_train_iter(SimpleNamespace(seed=seed, iter=iteration), 0)
    return torch.rand(1).item()


def test_draws_follow_from_seed_and_iteration():
    first = draw(0, 7)
    torch.rand(100)
    assert draw(0, 7) == first
    assert len({first, draw(1, 7), draw(0, 8), draw(7, 0)}) == 4


@pytest.mark.parametrize('resumed, earlier', [(True, 2.0), (False, 0.0)])
def test_core_hours_go_on_where_a_run_is_resumed(resumed, earlier, monkeypatch):
    """Weights of another run, only started from, cost this one nothing."""
    monkeypatch.setattr(core_hours_hook, 'time', SimpleNamespace(process_time=lambda: 100.0))
    monkeypatch.setattr(core_hours_hook, 'cpu_seconds', lambda: 150.0)  # 50 s of a trial
    hook, checkpoint = CoreHoursHook(), dict(meta={})
    monkeypatch.setattr(core_hours_hook, 'cpu_seconds', lambda: 1850.0)
    hook.after_load_checkpoint(SimpleNamespace(_resume=resumed), dict(meta=dict(core_hours=2.0)))
    hook.before_save_checkpoint(SimpleNamespace(), checkpoint)
    assert checkpoint['meta']['core_hours'] == earlier + 0.5


@pytest.mark.parametrize('epoch', [2, 0])
def test_the_score_threshold_goes_through_checkpoints(epoch):
    """Into a run that is resumed, not into a new one that loads the weights."""
    hook, runner = OperatingPointHook(), SimpleNamespace(epoch=3)
    checkpoint = dict(meta={})
    hook.before_save_checkpoint(runner, checkpoint)
    assert checkpoint == dict(meta={})  # before any validation there is none
    hook.after_val_epoch(runner, {'cells/score_thr': 0.35})
    hook.before_save_checkpoint(runner, checkpoint)
    assert checkpoint['meta']['operating_point'] == dict(score_thr=0.35, epoch=3)
    resumed, later = OperatingPointHook(), dict(meta={})
    resumed.after_load_checkpoint(runner, checkpoint)
    resumed.before_train(SimpleNamespace(epoch=epoch))
    resumed.before_save_checkpoint(runner, later)
    assert later == (checkpoint if epoch else dict(meta={}))


@pytest.mark.parametrize(
    'meta, given, expected, reason',
    [
        (dict(operating_point=dict(score_thr=0.35, epoch=4)), None, 0.35, 'validation of epoch 4'),
        (dict(operating_point=dict(score_thr=0.35, epoch=4)), 0.6, 0.6, 'as given'),
        ({}, None, 0.5, 'the default'),
    ],
)
def test_the_test_uses_it(meta, given, expected, reason, capsys):
    cfg = Config.fromfile(ROOT / 'configs/maskrcnn_r50.py')
    score_threshold.set_score_threshold(cfg, dict(meta=meta), given)
    assert cfg.test_evaluator.score_thr == cfg.default_hooks.visualization.score_thr == expected
    assert cfg.val_evaluator.score_thr is None
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize(
    'epoch, interval, begin, expected',
    [(0, 1, 1, 0), (2, 1, 1, 1), (2, 3, 1, 0), (3, 3, 1, 1), (10, 3, 1, 1), (1, 1, 2, 0)],
)
def test_validation_that_was_due_is_made_up_for(epoch, interval, begin, expected):
    validations, checkpoint_hook = [], CheckpointHook()
    runner = SimpleNamespace(
        epoch=epoch,
        hooks=[checkpoint_hook],
        train_loop=SimpleNamespace(val_interval=interval, val_begin=begin, max_epochs=10),
        val_loop=SimpleNamespace(run=lambda: validations.append(checkpoint_hook.last_ckpt)),
    )
    hub = runner.message_hub = MessageHub(f'made_up_{epoch}_{interval}_{begin}')
    hub.update_info('last_ckpt', 'epoch.pth')
    ResumeValidationHook().before_train(runner)
    assert validations == ['epoch.pth'] * expected  # which is saved anew if it is the best
    ResumeValidationHook().before_val_epoch(runner)  # what a checkpoint saved from then on holds
    assert hub.get_info('validated_epoch') == epoch
    ResumeValidationHook().before_train(runner)
    assert len(validations) == expected  # not a second time


def test_the_headline_alone_is_printed(monkeypatch):
    tag = {'a/x': 0.5, 'a/y': 0.25, 'time': 1.0}
    line = 'Epoch(val) [3][6/6]    a/x: 0.5000  a/y: 0.2500  time: 1.0000'
    base = HeadlineLogProcessor.__mro__[1]
    monkeypatch.setattr(base, 'get_log_after_epoch', lambda *args: (tag, line))
    found = HeadlineLogProcessor(headline=['a/y', 'b']).get_log_after_epoch(None, 0, 'val')
    assert found == (tag, 'Epoch(val) [3][6/6]  a/y: 0.2500')
    assert HeadlineLogProcessor(headline=['b']).get_log_after_epoch(None, 0, 'val') == (tag, line)


@pytest.mark.parametrize(
    'resize, scale_of',
    [
        (dict(scale_factor=2.0), lambda side: 2.0),
        (dict(scale=(288, 288)), lambda side: 288 / side),
        (None, lambda _: 1.0),
    ],
)
def test_checkpoints_carry_the_scale_of_the_training_images(resize, scale_of, prepared):
    pipeline = [dict(type='LoadImageFromFile')] + ([dict(type='Resize', keep_ratio=True, **resize)] if resize else [])
    hook, checkpoint = InputScaleHook(), dict(meta={})
    hook.before_train(SimpleNamespace(train_dataloader=SimpleNamespace(dataset=build_dataset(prepared, pipeline))))
    hook.before_save_checkpoint(None, checkpoint)
    images = read_json(prepared / 'annotations/train.json')['images']
    scales = sorted(scale_of(max(image['height'], image['width'])) for image in images)
    assert checkpoint['meta']['input_scale'] == pytest.approx([scales[0], statistics.median(scales), scales[-1]])


def test_frozen_batch_norm_uses_and_keeps_its_statistics_and_trains_its_weights():
    norm = torch.nn.BatchNorm2d(3)
    model = torch.nn.Sequential(norm, torch.nn.Dropout(0.5)).train()
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    before = norm.running_mean.clone()
    FreezeBatchNormHook().before_train_iter(SimpleNamespace(model=model), 0)
    images = torch.randn(2, 3, 4, 4) * 5
    output = norm(images)
    assert torch.equal(norm.running_mean, before) and model[1].training
    assert torch.allclose(output, (images - before[:, None, None]) / (1 + norm.eps) ** 0.5, atol=1e-5)
    output.sum().backward()
    assert norm.weight.grad is not None and norm.bias.grad is not None
