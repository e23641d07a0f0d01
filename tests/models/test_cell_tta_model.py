import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.structures import InstanceData

from cellseg_mm.structures import encode_instances

SIZE = (37, 52)


class Oracle(BaseModel):
    """Sees each cell as it is drawn, whatever the view: its number in red, its label in green, its score in blue."""

    test_cfg = ConfigDict(rcnn=dict(max_per_img=100))

    def __init__(self, shown_as=1):
        super().__init__()
        self.shown_as, self.sizes = shown_as, []

    def forward(self, inputs, data_samples, mode):
        assert mode == 'predict'
        for image, sample in zip(inputs, data_samples, strict=True):
            self.sizes.append(tuple(image.shape[1:]))
            assert sample.img_shape == tuple(image.shape[1:]) and 'gt_instances' not in sample
            np.testing.assert_allclose(np.multiply(sample.ori_shape, sample.scale_factor[::-1]), sample.img_shape)
            if image.shape[1:] != sample.ori_shape:  # interpolated: no numbers to be seen
                image = torch.zeros(3, *sample.ori_shape, dtype=torch.uint8)
            number, label, score = image.long().numpy()
            count = number.max()
            first = [np.flatnonzero(number.ravel() == index)[0] for index in range(1, count + 1)]
            sample.pred_instances = InstanceData(
                masks=encode_instances(number.astype(np.int32), count),
                labels=torch.from_numpy(label.ravel()[first]) if count else torch.zeros(0, dtype=torch.int64),
                scores=torch.from_numpy(score.ravel()[first] / 256).float() if count else torch.zeros(0),
            )
        return data_samples


@pytest.fixture
def batch():
    """An image of cells that touch, and one without a cell."""
    rng = np.random.default_rng(0)
    image = np.zeros((3, *SIZE), np.uint8)
    for number, place in enumerate(rng.permutation(20)[:15], start=1):
        row, column = divmod(int(place), 5)
        tile = np.s_[:, row * 9 : row * 9 + rng.integers(5, 10), column * 10 : column * 10 + rng.integers(6, 11)]
        image[tile] = np.array([number, number % 3, 200 - number])[:, None, None]
    images = [torch.from_numpy(image), torch.zeros(3, *SIZE, dtype=torch.uint8)]
    samples = []
    for index in range(2):
        sample = DetDataSample(metainfo=dict(img_id=index, ori_shape=SIZE, img_shape=SIZE, scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(labels=torch.arange(3))
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def build(**options):
    return MODELS.build(dict(type='CellTTAModel', module=Oracle(), **options))


def test_an_equivariant_model_gives_the_cells_of_a_single_look(batch):
    model = build()
    found, nothing = model.test_step(batch)
    plain = Oracle()(batch['inputs'], [DetDataSample(metainfo=s.metainfo) for s in batch['data_samples']], 'predict')[0]
    assert len(model.views) == 8
    assert found.pred_instances.masks == plain.pred_instances.masks  # numbered by falling score
    torch.testing.assert_close(found.pred_instances.scores, plain.pred_instances.scores)
    torch.testing.assert_close(found.pred_instances.labels, plain.pred_instances.labels)
    assert found.pred_instances.bboxes.shape == (15, 4) and len(found.gt_instances) == 3 and found.img_id == 0
    assert len(nothing.pred_instances) == 0 and nothing.pred_instances.masks == []


def test_views_are_all_combinations_one_at_a_time(batch):
    model = build(flips=[True], turns=[0, 1], scales=[1.0, 0.7])
    model.test_step({key: values[:1] for key, values in batch.items()})
    assert model.module.sizes == [(37, 52), (52, 37), (26, 36), (36, 26)]


def test_no_more_cells_than_the_detector_may_give(batch, monkeypatch):
    monkeypatch.setattr(Oracle, 'test_cfg', ConfigDict(rcnn=dict(max_per_img=7)))
    found, _ = build().test_step(batch)
    assert len(found.pred_instances) == 7
