"""mmcv's own nms is the reference: every result must be equal, bit by bit and in order."""

import importlib
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, nms
from tiny_detector import draw, predict, random_detector, tiny_config

from cellseg_mm.models.layers.sparse_nms import MIN_THRESHOLD, keep_highest, sparse_nms, suppress_neighbours

MODULE = importlib.import_module(sparse_nms.__module__)
THRESHOLDS = [MIN_THRESHOLD, 0.1, 0.25, 0.3, 0.5, 0.7, 0.9, 1.0]


def random_scene(rng: np.random.Generator) -> tuple:
    """Boxes and scores: candidates of cells or of any size, often equal, at a threshold, empty or inside out."""
    num = int(rng.choice([0, 1, 2, 30, 300, 900]))
    cells = rng.uniform(0, rng.choice([20, 200, 1000]), (max(num // 10, 1), 2))
    centres = cells[rng.integers(0, len(cells), num)] + rng.normal(0, 2, (num, 2))
    sizes = np.exp(rng.normal(3, rng.choice([0.1, 1]), (num, 2)))
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    boxes = boxes.round() if rng.random() < 0.5 else boxes  # equal boxes and equal overlaps
    boxes[rng.random(num) < 0.05, 2:] -= 30
    boxes[rng.random(num) < 0.05, 2] = 0
    scores = rng.random(num)
    scores = scores.round(1) if rng.random() < 0.5 else scores
    return torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores, dtype=torch.float32)


def assert_same(found: tuple, expected: tuple) -> None:
    for ours, stock in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, stock, rtol=0, atol=0)


@pytest.fixture
def no_stock(monkeypatch):
    """Fail where mmcv's function is asked."""
    monkeypatch.setattr(MODULE, 'nms', mock.Mock(side_effect=AssertionError('mmcv was asked')))


@pytest.mark.parametrize('strip', [1, 7, MODULE.STRIP])
def test_equals_stock(strip, no_stock, monkeypatch):
    monkeypatch.setattr(MODULE, 'STRIP', strip)
    dropped = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        boxes, scores = random_scene(rng)
        options = (
            float(rng.choice(THRESHOLDS)),
            int(rng.integers(2)),
            float(rng.choice([0, 0.3])),
            int(rng.choice([-1, 1, 20])),
        )
        expected = nms(boxes, scores, *options)
        assert_same(sparse_nms(boxes, scores, *options), expected)
        dropped += len(boxes) - len(expected[1])
    assert dropped > 10_000


@pytest.mark.parametrize('split_thr', [100, 10_000])
@pytest.mark.parametrize('class_agnostic', [False, True])
def test_equals_stock_in_batches(class_agnostic, split_thr, no_stock):
    """By mmcv's batched_nms, which lays classes apart in float32, or from split_thr on goes through them one by one."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        boxes, scores = random_scene(rng)
        if not len(boxes):
            continue
        labels = torch.from_numpy(rng.integers(0, rng.choice([1, 5]), len(boxes)))
        cfg = dict(iou_threshold=float(rng.choice(THRESHOLDS)), split_thr=split_thr, max_num=int(rng.choice([-1, 50])))
        cfg.update(score_threshold=0.2 if rng.random() < 0.3 else 0, class_agnostic=class_agnostic)
        ours, stock = (batched_nms(boxes, scores, labels, dict(cfg, type=name)) for name in ('sparse_nms', 'nms'))
        assert_same(ours, stock)


@pytest.mark.parametrize('threshold', THRESHOLDS)
def test_finds_the_farthest_neighbours(threshold, no_stock, monkeypatch):
    """Pairs of nested boxes with an IoU about the threshold, the inner one at either end, each pair far from others."""
    monkeypatch.setattr(MODULE, 'STRIP', 1)
    rng = np.random.default_rng(0)
    outer = np.concatenate([np.zeros((400, 2)), rng.uniform(1, 300, (400, 2))], axis=1)
    side = rng.integers(0, 2, 400)
    inner, end = outer.copy(), rng.integers(0, 2, 400)
    share = threshold * (1 + rng.normal(0, 1e-6, 400))
    rows, size = np.arange(400), outer[np.arange(400), 2 + side]
    inner[rows, side + 2] = size * share
    inner[rows, side] += end * size * (1 - share)
    inner[rows, side + 2] += end * size * (1 - share)
    boxes = np.stack([outer, inner], axis=1) + 1000 * rng.permutation(400)[:, None, None]
    boxes = torch.tensor(boxes.reshape(-1, 4), dtype=torch.float32)
    for scores in (torch.arange(800.0), -torch.arange(800.0)):
        expected = nms(boxes, scores, threshold)
        assert_same(sparse_nms(boxes, scores, threshold), expected)
        assert threshold == 1 or 500 < len(expected[1]) < 700  # half of the pairs are above


@pytest.mark.parametrize(
    'scale', [(1e-30, 1e-30), (1e-21, 1e-22), (1e15, 1e15), (1e30, 1e30), (1, 1.4e-45), (1.4e-45, 1)]
)
def test_sizes_at_the_ends_of_float32(scale, no_stock):
    """Areas overflow, or are rounded to the few numbers that there are near zero."""
    rng = np.random.default_rng(0)
    corners, sizes = rng.uniform(0, 9, (300, 2)), rng.uniform(0.5, 4, (300, 2))
    boxes = np.concatenate([corners, corners + sizes], axis=1) * np.tile(scale, 2)
    boxes, scores = torch.tensor(boxes, dtype=torch.float32), torch.rand(300)
    for threshold in (0.4, 0.9):
        assert_same(sparse_nms(boxes, scores, threshold), nms(boxes, scores, threshold))


def test_as_plain_python():
    """Without numba's compiler the algorithm is the same."""
    boxes, scores = random_scene(np.random.default_rng(12))
    order = scores.argsort(descending=True)
    with np.errstate(invalid='ignore'):
        kept = keep_highest(boxes.numpy(), order.numpy(), 0.5, 0, suppress_neighbours)
    assert order[torch.from_numpy(kept)].tolist() == nms(boxes, scores, 0.5)[1].tolist()
    assert 20 < kept.sum() < len(boxes)


BOXES, SCORES = torch.tensor([[0.0, 0, 9, 9], [1.0, 1, 9, 9], [0.0, 50, 9, 60]]), torch.tensor([0.2, 0.9, 0.9])


@pytest.mark.parametrize(
    ('boxes', 'scores', 'threshold'),
    [
        (torch.where(BOXES == 60, torch.nan, BOXES), SCORES, 0.5),
        (torch.where(BOXES == 60, torch.inf, BOXES), SCORES, 0.5),
        (BOXES, SCORES, 0.0),
        (BOXES, SCORES, -0.1),
        (BOXES.numpy(), SCORES.numpy(), 0.5),
    ],
)
def test_leaves_the_rest_to_stock(boxes, scores, threshold, monkeypatch):
    stock = mock.Mock(side_effect=nms)
    monkeypatch.setattr(MODULE, 'nms', stock)
    found, expected = sparse_nms(boxes, scores, threshold), nms(boxes, scores, threshold)
    assert stock.called and [type(part) for part in found] == [type(part) for part in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.cuda
def test_cuda_is_left_to_stock(monkeypatch):
    stock = mock.Mock(side_effect=nms)
    monkeypatch.setattr(MODULE, 'nms', stock)
    assert sparse_nms(BOXES.cuda(), SCORES.cuda(), 0.5)[1].tolist() == [1, 2]
    assert stock.called


def test_refuses_what_stock_refuses():
    for boxes, scores in ((BOXES.double(), SCORES.double()), (BOXES[:, :3], SCORES), (BOXES, SCORES[:2])):
        for function in (nms, sparse_nms):
            with pytest.raises((RuntimeError, AssertionError)):
                function(boxes, scores, 0.5)


def test_without_numba_stock_is_used_and_it_is_said_once(monkeypatch):
    monkeypatch.setitem(sys.modules, 'numba', None)
    MODULE._compiled.cache_clear()
    try:
        with pytest.warns(UserWarning, match='numba cannot compile NMS') as warned:
            for _ in range(2):
                assert sparse_nms(BOXES, SCORES, 0.5)[1].tolist() == [1, 2]
        assert len(warned) == 1
    finally:
        MODULE._compiled.cache_clear()


def test_gradients_pass_as_in_stock():
    gradients = []
    for function in (nms, sparse_nms):
        boxes, scores = BOXES.clone().requires_grad_(), SCORES.clone().requires_grad_()
        function(boxes, scores, 0.5)[0].square().sum().backward()
        gradients.append((boxes.grad, scores.grad))
    assert_same(*gradients)


@pytest.mark.parametrize('agnostic', [False, True])
def test_a_detector_finds_the_same(agnostic, tmp_path):
    found = []
    for name in ('nms', 'sparse_nms'):
        cfg = tiny_config('maskrcnn_r18_fpn_cbam', rcnn=dict(score_thr=0.1, nms=dict(class_agnostic=agnostic)))
        for stage in (cfg.model.test_cfg.rpn, cfg.model.test_cfg.rcnn):
            assert stage.nms.type == 'sparse_nms'  # the default
            stage.nms.type = name
        found.append(predict(cfg, random_detector(cfg), draw(1, 128, 128), tmp_path / 'image.png'))
    stock, ours = found
    assert_same((ours.bboxes, ours.scores, ours.labels), (stock.bboxes, stock.scores, stock.labels))
    assert ours.masks == stock.masks and len(ours) > 100
