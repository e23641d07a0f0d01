import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, read_json
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from cellseg_mm.datasets import inner_datasets
from cellseg_mm.datasets.cell_dataset import fixed_randomness
from cellseg_mm.engine import SeedHook
from cellseg_mm.utils import UserError


@pytest.fixture
def dataset_cfg(prepared):
    cfg = Config.fromfile(ROOT / 'configs/demo/maskrcnn_r18_fpn.py').train_dataloader.dataset
    cfg.data_root = str(prepared)
    cfg.metainfo = dict(classes=read_json(prepared / 'statistics.json')['classes'])
    return cfg


def batches(cfg, workers, epochs, seed=3):
    """Images, boxes and masks of some epochs, as a training loop asks for them."""
    dataset = DATASETS.build(cfg)
    kwargs = dict(num_workers=workers, persistent_workers=workers > 0, collate_fn=pseudo_collate, batch_size=2)
    loader = DataLoader(dataset, **kwargs)
    seen = []
    for epoch in epochs:
        dataset.set_randomness(seed, epoch)
        for batch in loader:
            for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
                instances = sample.gt_instances
                seen.append((image, instances.bboxes.tensor, torch.from_numpy(instances.masks.to_ndarray())))
    return seen


def equal(left, right):
    pairs = [pair for items in zip(left, right, strict=True) for pair in zip(*items, strict=True)]
    return all(a.shape == b.shape and torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs)


@pytest.mark.parametrize('workers', [1, 2])
def test_any_number_of_workers_sees_the_same_batches(dataset_cfg, workers):
    assert equal(batches(dataset_cfg, 0, [0, 1]), batches(dataset_cfg, workers, [0, 1]))


def test_epochs_and_seeds_differ_and_an_epoch_can_be_had_alone(dataset_cfg):
    both = batches(dataset_cfg, 0, [0, 1])
    count = len(both) // 2
    assert equal(both[count:], batches(dataset_cfg, 0, [1]))  # as after a resume
    assert not equal(both[:count], both[count:])
    assert not equal(both[:count], batches(dataset_cfg, 0, [0], seed=4))


def test_other_streams_are_left_as_they_were(dataset_cfg):
    dataset = DATASETS.build(dataset_cfg)
    np.random.seed(0)
    random.seed(0)
    torch.manual_seed(0)
    expected = np.random.rand(), random.random(), torch.rand(1)
    np.random.seed(0)
    random.seed(0)
    torch.manual_seed(0)
    dataset[0]
    assert (np.random.rand(), random.random(), torch.rand(1)) == expected


def test_fixed_randomness_is_a_function_of_its_key():
    draws = []
    for key in ((0, 1, 2), (0, 1, 2), (0, 2, 1), (1, 1, 2)):
        with fixed_randomness(*key):
            draws.append((np.random.rand(), random.random()))
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_the_hook_passes_on_the_seed_and_the_epoch(dataset_cfg):
    class Runner:
        seed, epoch = 11, 5

        class train_dataloader:
            dataset = DATASETS.build(dict(type='RepeatDataset', times=2, dataset=dataset_cfg))

    SeedHook().before_train_epoch(Runner)
    (inner,) = inner_datasets(Runner.train_dataloader.dataset)
    assert inner._seed_and_epoch.tolist() == [11, 5]


def test_instances_name_their_ids_and_areas(dataset_cfg, prepared):
    dataset = DATASETS.build(dataset_cfg)
    content = read_json(prepared / 'annotations/train.json')
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        entries = [entry for entry in content['annotations'] if entry['image_id'] == info['img_id']]
        assert [(entry['instance_id'], entry['area']) for entry in entries] == [
            (instance['instance_id'], instance['area']) for instance in info['instances']
        ]


def test_an_image_drawn_again_within_an_epoch_is_another(dataset_cfg):
    """And each draw is had again from seed, epoch and index, the first being that of the plain dataset."""
    plain = DATASETS.build(dataset_cfg)
    redrawn = DATASETS.build(dict(type='RedrawDataset', dataset=dataset_cfg, times=3))
    for dataset in (plain, *inner_datasets(redrawn)):
        dataset.set_randomness(3, 1)
    images = [redrawn[index]['inputs'] for index in (0, len(plain), 2 * len(plain))]
    assert len(redrawn) == 3 * len(plain)
    assert torch.equal(images[0], plain[0]['inputs'])
    assert len({image.numpy().tobytes() for image in images}) == 3
    assert torch.equal(redrawn[len(plain)]['inputs'], images[1])
    assert redrawn[len(plain)]['data_samples'].img_path == plain[0]['data_samples'].img_path


def test_a_missing_image_is_named(dataset_cfg, prepared, tmp_path):
    root = shutil.copytree(prepared, tmp_path / 'cells')
    dataset_cfg.data_root = str(root)
    dataset = DATASETS.build(dataset_cfg)
    path = dataset.get_data_info(1)['img_path']
    Path(path).unlink()
    dataset[0]
    with pytest.raises(UserError, match=f'{re.escape(path)}: missing from the prepared data set; prepare the data'):
        dataset[1]
