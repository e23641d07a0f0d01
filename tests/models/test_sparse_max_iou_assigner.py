"""mmdet's own MaxIoUAssigner is the reference: every result must be equal, bit by bit."""

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules import AnchorGenerator, MaxIoUAssigner
from mmdet.structures.bbox import HorizontalBoxes, bbox_overlaps
from mmengine.structures import InstanceData

from cellseg_mm.models import SparseMaxIoUAssigner
from cellseg_mm.models.task_modules import sparse_overlaps
from cellseg_mm.structures import InstanceMapMasks

RPN = dict(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)
DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)]

# Boxes on a grid of integers, so that equal boxes and equal overlaps are frequent; some are empty or inside out.
BOX = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(-1, 8), st.integers(-1, 8))
OPTIONS = st.fixed_dictionaries(
    dict(
        pos_iou_thr=st.sampled_from([0.7, 0.5, 0.25, 0.0]),
        neg_iou_thr=st.sampled_from([0.3, 0.5, 0.0, (0.1, 0.4), (0.0, 0.5), 0]),
        min_pos_iou=st.sampled_from([0.0, 0.3, 0.5]),
        gt_max_assign_all=st.booleans(),
        match_low_quality=st.booleans(),
        ignore_iof_thr=st.sampled_from([-1, 0.5]),
        ignore_wrt_candidates=st.booleans(),
    )
)


def boxes(most):
    """(N, 4) tensors of 0 to ``most`` boxes."""
    return st.lists(BOX, max_size=most).map(
        lambda rows: torch.tensor([(x, y, x + w, y + h) for x, y, w, h in rows], dtype=torch.float32).reshape(-1, 4)
    )


def assert_equal_results(options, priors, gt, ignored=None, device='cpu'):
    """Both assigners on the same boxes; the stock result is returned."""
    labels = torch.arange(len(gt), device=device) % 4
    arguments = [InstanceData(priors=priors.to(device)), InstanceData(bboxes=gt.to(device), labels=labels)]
    arguments += [] if ignored is None else [InstanceData(bboxes=ignored.to(device))]
    expected = MaxIoUAssigner(**options).assign(*arguments)
    found = SparseMaxIoUAssigner(**options).assign(*arguments)
    assert found.num_gts == expected.num_gts
    for name in ('gt_inds', 'max_overlaps', 'labels'):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0, msg=name)
    return expected


@settings(max_examples=200, deadline=None)
@given(
    options=OPTIONS,
    priors=boxes(60),
    gt=boxes(12),
    ignored=st.none() | boxes(3),
    block=st.sampled_from([1, 3, 32]),
    max_pairs=st.sampled_from([1, 40, 2**20]),
)
def test_equals_stock(options, priors, gt, ignored, block, max_pairs):
    with mock.patch.multiple(sparse_overlaps, BLOCK=block, MAX_PAIRS=max_pairs):
        assert_equal_results(options, priors, gt, ignored)


@settings(max_examples=50, deadline=None)
@given(
    options=OPTIONS,
    priors=boxes(40),
    gt=boxes(8),
    dtypes=st.sampled_from([(torch.half, torch.float), (torch.double, torch.double)]),
)
def test_equals_stock_in_other_precisions(options, priors, gt, dtypes):
    """Mixed precision may hand the second stage fp16 proposals; here at coordinates where areas overflow."""
    assert_equal_results(options, (50 * priors).to(dtypes[0]), (50 * gt).to(dtypes[1]))


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('options', [RPN, dict(RPN, min_pos_iou=0.0), dict(RPN, gt_max_assign_all=False)])
def test_equals_stock_on_anchors_of_all_levels(options, device):
    generator = AnchorGenerator(strides=[4, 8, 16, 32, 64], scales=[8], ratios=[0.5, 1.0, 2.0])
    sizes = [(-(-256 // stride), -(-320 // stride)) for stride in (4, 8, 16, 32, 64)]
    anchors = torch.cat(generator.grid_priors(sizes, device='cpu'))
    corners = torch.rand(80, 2) * torch.tensor([320.0, 256.0])
    gt = torch.cat([corners, corners + 4 + 40 * torch.rand(80, 2)], dim=1)
    gt[:10] = anchors[torch.randint(len(anchors), (10,))]  # overlaps of exactly 1
    gt[10:20] = gt[:10]  # equal boxes
    gt[20:30] = gt[20:30].round()  # ties between anchors
    gt[30] = torch.tensor([-900.0, -900.0, -880.0, -880.0])  # overlaps nothing
    result = assert_equal_results(options, anchors, gt, device=device)
    assert len(result.gt_inds.unique()) > 40


@pytest.mark.parametrize('device', DEVICES)
def test_equals_stock_on_proposals(device):
    corners = 200 * torch.rand(40, 2)
    gt = torch.cat([corners, corners + 10 + 20 * torch.rand(40, 2)], dim=1)
    proposals = gt[torch.randint(40, (400,))] + 3 * torch.randn(400, 4)
    options = dict(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
    assert (assert_equal_results(options, proposals, gt, device=device).gt_inds > 0).sum() > 100


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('thr', [0.5, 0.2, -1])
def test_priors_in_ignored_masks_are_no_background(thr, device):
    """An L-shaped region, whose box holds the whole image; shares are counted pixel by pixel."""
    region = np.zeros((60, 80), np.int32)
    region[:, :20], region[45:] = 1, 2
    gt = torch.tensor([[30.0, 10, 42, 22], [4.0, 20, 16, 32]])  # the second lies in the region
    corners = torch.rand(500, 2) * torch.tensor([90.0, 70.0]) - 8
    priors = torch.cat([gt, torch.cat([corners, corners + 2 + 20 * torch.rand(500, 2)], dim=1)]).to(device)
    cells = InstanceData(bboxes=gt.to(device), labels=torch.tensor([2, 3], device=device))
    masks = InstanceMapMasks(region[None])
    ignored = InstanceData(bboxes=masks.get_bboxes('hbox').tensor.to(device), labels=cells.labels, masks=masks)
    found = SparseMaxIoUAssigner(**RPN, ignore_mask_thr=thr).assign(InstanceData(priors=priors), cells, ignored)
    plain = MaxIoUAssigner(**RPN).assign(InstanceData(priors=priors), cells)
    touched = torch.cat([priors[:, :2].floor(), priors[:, 2:].ceil()], dim=1).long().cpu()
    for box, ours, stock in zip(touched.numpy(), found.gt_inds, plain.gt_inds, strict=True):
        x1, y1, x2, y2 = np.clip(box, 0, [80, 60, 80, 60])
        pixels = region[y1:y2, x1:x2] > 0
        is_ignored = stock == 0 and thr >= 0 and pixels.size and pixels.mean() > thr
        assert ours == (-1 if is_ignored else stock)
    assert found.gt_inds[:2].tolist() == [1, 2] and (plain.gt_inds == 0).sum() > 400
    assert thr < 0 or 50 < (found.gt_inds == -1).sum() < 400


def test_takes_what_stock_takes():
    """Box classes, a column of scores, and jittered copies of repeated ground truth."""
    gt = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 10], [20.0, 20, 30, 30]])
    priors = torch.cat([gt + 1, torch.full((3, 1), 0.9)], dim=1)
    assert_equal_results(RPN, priors, gt)
    plain, boxed = (
        SparseMaxIoUAssigner(**RPN).assign(InstanceData(priors=p), InstanceData(bboxes=g, labels=torch.zeros(3).long()))
        for p, g in ((gt + 1, gt), (HorizontalBoxes(gt + 1), HorizontalBoxes(gt)))
    )
    assert torch.equal(plain.gt_inds, boxed.gt_inds)
    results = []
    for assigner in (MaxIoUAssigner, SparseMaxIoUAssigner):
        torch.manual_seed(3)
        jittering = assigner(**RPN, perm_repeat_gt_cfg=dict(iou_thr=0.7, perm_range=0.05))
        results.append(jittering.assign(InstanceData(priors=gt + 1), InstanceData(bboxes=gt, labels=torch.arange(3))))
    assert torch.equal(results[0].max_overlaps, results[1].max_overlaps)
    assert torch.equal(results[0].gt_inds, results[1].gt_inds)


def test_rejects_overlaps_that_need_not_be_zero():
    for calculator in (dict(type='BboxOverlaps2D_GLIP'), dict(type='BboxOverlaps2D', dtype='fp16')):
        with pytest.raises(ValueError, match='iou_calculator'):
            SparseMaxIoUAssigner(**RPN, iou_calculator=calculator)


def grid_priors():
    """15,625 squares of 32 px, in a random order."""
    side = torch.arange(0, 1000, 8.0)
    corners = torch.cartesian_prod(side, side)
    return torch.cat([corners, corners + 32], dim=1)[torch.randperm(len(corners))]


def count_pairs(gt, priors):
    """Overlapping pairs, pairs looked at, and the most that were looked at together."""
    counts = []

    def counting(*pair):
        values = bbox_overlaps(*pair)
        counts.append(values.numel())
        return values

    with mock.patch.object(sparse_overlaps, 'MAX_PAIRS', 2**15):
        total = sum(len(overlap) for *_, overlap in sparse_overlaps.overlapping_pairs(gt, priors, counting))
    assert total == (bbox_overlaps(gt, priors) > 0).sum()
    return total, sum(counts), max(counts)


def test_looks_at_few_pairs_that_do_not_overlap():
    priors = grid_priors()
    gt = priors[::50] + torch.tensor([0.0, 0.0, -7.0, -7.0])
    total, looked_at, most = count_pairs(gt, priors)
    assert looked_at < 6 * total < 0.05 * len(gt) * len(priors)
    assert most <= 2**15 + len(priors)


def test_memory_is_bounded_where_all_boxes_overlap_all_priors():
    priors = grid_priors()
    gt = torch.tensor([[0.0, 0.0, 1024.0, 1024.0]]).expand(40, 4)
    total, _, most = count_pairs(gt, priors)
    assert total == len(gt) * len(priors)
    assert most <= 2**15 + sparse_overlaps.BLOCK + len(priors)
