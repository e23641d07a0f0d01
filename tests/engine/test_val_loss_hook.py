import copy
import random

import numpy as np
import pytest
import torch
from conftest import write_tiny_config
from mmdet.registry import MODELS
from mmengine.runner import Runner

from cellseg_mm.engine import run_config
from cellseg_mm.engine.hooks import val_loss_hook
from cellseg_mm.engine.hooks.val_loss_hook import loss_dataloader, mean_losses, window_dataloader
from cellseg_mm.engine.precision import fit_precision_to_device


@pytest.fixture(scope='module')
def cfg(prepared, tmp_path_factory):
    """A short epoch of a small model."""
    config = write_tiny_config(tmp_path_factory.mktemp('config') / 'tiny.py', times=1, width=16)
    options = {'train_dataloader.dataset.dataset.indices': 4, 'val_dataloader.dataset.indices': 2}
    cfg = run_config.training_config(str(config), dict(data_root=str(prepared), **options), from_scratch=True)
    fit_precision_to_device(cfg)
    cfg.train_cfg.val_begin = 2  # this tests losses, not metrics
    return cfg


def train(cfg, work_dir, hooks):
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = str(work_dir)
    cfg.custom_hooks = hooks
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1, save_last=False)
    runner = Runner.from_cfg(cfg)
    torch.manual_seed(1)
    return runner.train().state_dict(), (torch.rand(1).item(), random.random(), np.random.rand())


@pytest.mark.parametrize('seeded', [True, False])
def test_same_weights_and_random_numbers_with_and_without(cfg, tmp_path, seeded):
    others = [dict(type='SeedHook')] if seeded else []
    weights, draws = train(cfg, tmp_path / 'without', others)
    weights_with, draws_with = train(cfg, tmp_path / 'with', [*others, dict(type='ValLossHook')])
    assert all(torch.equal(value, weights_with[name]) for name, value in weights.items())
    assert draws == draws_with


def test_ground_truth_and_input_in_one_geometry(cfg):
    """Images are enlarged to the input's size; masks and boxes must be too, and nothing is augmented."""
    resized = 0
    for batch in Runner.build_dataloader(loss_dataloader(cfg.val_dataloader), seed=0):
        (image,), (sample,) = batch['inputs'], batch['data_samples']
        masks = sample.gt_instances.masks
        assert (masks.height, masks.width) == tuple(image.shape[-2:]) == sample.img_shape
        np.testing.assert_allclose(masks.get_bboxes().tensor, sample.gt_instances.bboxes.tensor, atol=3)
        resized += sample.img_shape != sample.ori_shape
        assert not sample.get('flip')
    assert resized


def test_a_wrapped_data_set(cfg):
    plain = copy.deepcopy(cfg.val_dataloader)
    wrapped = copy.deepcopy(plain)
    wrapped.dataset = dict(type='ConcatDataset', datasets=[plain.dataset])
    (found,), expected = loss_dataloader(wrapped).dataset.datasets, loss_dataloader(plain).dataset
    assert found.pipeline == expected.pipeline != plain.dataset.pipeline


def test_the_model_stays_as_it_is(cfg):
    model = MODELS.build(cfg.model).train()
    before = copy.deepcopy(model.state_dict())
    losses = mean_losses(model, Runner.build_dataloader(loss_dataloader(cfg.val_dataloader), seed=0))
    assert losses['loss'] == pytest.approx(sum(value for name, value in losses.items() if name.startswith('loss_')))
    assert model.training and model.backbone.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class StubModel(torch.nn.Module):
    """A loss that is the image's first value."""

    def data_preprocessor(self, batch, training):
        return batch

    def forward(self, inputs, data_samples, mode):
        return inputs

    def parse_losses(self, inputs):
        return None, dict(loss=inputs.mean())


def test_mean_is_weighted_by_images():
    batches = [dict(inputs=torch.full((n,), value), data_samples=[0] * n) for n, value in ((3, 1.0), (1, 5.0))]
    assert mean_losses(StubModel(), batches) == dict(loss=2.0)


def test_mean_is_weighted_by_images_over_ranks(monkeypatch):
    """Beside a rank of four images at 11; a rank without an image has no names."""
    monkeypatch.setattr(val_loss_hook, 'all_gather_object', lambda own: [own, (dict(loss=44.0), 4), ({}, 0)])
    batches = [dict(inputs=torch.full((2,), 5.0), data_samples=[0] * 2)]
    assert mean_losses(StubModel(), batches) == dict(loss=(2 * 5 + 4 * 11) / 6)


def test_windows_are_the_same_each_time_and_not_augmented(cfg):
    train = copy.deepcopy(cfg.train_dataloader)
    load, annotations, resize, pack = train.dataset.dataset.pipeline
    jitter = dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, hue=0.15, prob=1.0)
    window = dict(type='RandomWindow', size=24)
    train.dataset.dataset.pipeline = [load, annotations, window, dict(type='ApplyAffine'), jitter, resize, pack]
    loader = Runner.build_dataloader(window_dataloader(cfg.val_dataloader, train, 3), seed=0)
    inputs = [torch.stack([image for batch in loader for image in batch['inputs']]) for _ in range(2)]
    assert torch.equal(*inputs) and inputs[0].shape == (6, 3, 128, 128)  # 3 windows of each of 2 images, resized
    assert len({image.numpy().tobytes() for image in inputs[0]}) == 6
    assert loader.batch_size == train.batch_size
    steps = [type(step).__name__ for step in loader.dataset.dataset.pipeline.transforms]
    expected = ['LoadImageFromFile', 'LoadCellAnnotations', 'RandomWindow', 'ApplyAffine', 'Resize', 'PackDetInputs']
    assert steps == expected
