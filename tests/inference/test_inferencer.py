import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from tiny_detector import CLASSES, POINT

from cellseg_mm import CellInferencer
from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.engine.detector import build_detector, checkpoint_config
from cellseg_mm.inference import ArraySource
from cellseg_mm.structures import Cells
from cellseg_mm.utils import UserError


@pytest.fixture(scope='module')
def inferencer(tiny_checkpoint):
    return CellInferencer(tiny_checkpoint, device='cpu')


def draw(height: int, width: int) -> np.ndarray:
    return draw_tissue(np.random.default_rng([height, width]), height, width)[0]


def assert_same(first: Cells, second: Cells) -> None:
    assert first.codes() == second.codes()
    assert first.labels.tolist() == second.labels.tolist()
    assert first.scores.tolist() == second.scores.tolist()


def test_it_finds_what_the_stock_test_path_finds(inferencer, tiny_checkpoint, tmp_path):
    image, path = draw(80, 110), tmp_path / 'image.png'
    cv2.imwrite(str(path), image[..., ::-1])
    checkpoint = read_checkpoint(str(tiny_checkpoint))
    cfg = checkpoint_config(checkpoint, str(tiny_checkpoint))
    detector = build_detector(cfg)
    detector.load_state_dict(checkpoint['state_dict'])
    steps = [step for step in cfg.test_dataloader.dataset.pipeline if step['type'] != 'LoadCellAnnotations']
    data = Compose(steps)(dict(img_path=str(path), img_id=0))
    with torch.no_grad():
        sample = detector.test_step(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))[0]
    found = sample.pred_instances
    kept = found[found.scores >= POINT['score_thr']]
    expected = Cells.from_codes(kept.masks, kept.labels, kept.scores, 80, 110)
    visible = np.unique(expected.instance_map())
    expected = expected.select(visible[visible > 0] - 1)  # each cell once
    assert len(expected) > 20
    assert_same(inferencer(image), expected)
    assert_same(inferencer(str(path)), expected)
    assert_same(inferencer([image])[0], expected)


def test_no_cell_is_half_hidden_by_those_of_higher_scores(inferencer):
    cells = inferencer(draw(96, 96))
    ids = cells.instance_map(min_visible=0)
    visible = np.bincount(ids.ravel(), minlength=len(cells) + 1)[1:]
    assert (2 * visible >= cells.runs.areas(len(cells))).all()


def test_threshold_and_classes_come_from_the_checkpoint(inferencer, tiny_checkpoint):
    assert inferencer.classes == tuple(CLASSES)
    assert inferencer.score_thr == POINT['score_thr'] and 'epoch 2' in inferencer.score_reason
    high = CellInferencer(tiny_checkpoint, device='cpu', score_thr=0.8)
    image = draw(96, 96)
    scores = inferencer(image).scores
    assert scores.min() < 0.8
    assert sorted(high(image).scores) == pytest.approx(sorted(scores[scores >= 0.8]))


def test_an_image_that_would_be_shrunk_too_far_goes_through_in_tiles(inferencer):
    assert not inferencer.needs_tiles(ArraySource(draw(200, 300)))
    large = draw(900, 120)
    assert inferencer.needs_tiles(ArraySource(large))
    cells = inferencer(large)
    assert (cells.height, cells.width) == (900, 120)
    boxes = cells.boxes()
    assert 800 < boxes[:, 3].max() <= 900 and boxes[:, 1].min() < 100 and boxes[:, 2].max() <= 120


def test_views_are_merged_with_tta(tiny_checkpoint, inferencer):
    image = draw(64, 64)
    merged = CellInferencer(tiny_checkpoint, device='cpu', tta=True, score_thr=0.01)(image)
    assert len(merged) and merged.scores.max() <= 1
    assert merged.codes() != inferencer(image).codes()


@pytest.mark.parametrize('name', ['os.system', 'subprocess.Popen'])
def test_a_config_that_names_a_program_is_refused(tiny_checkpoint, tmp_path, name):
    checkpoint = torch.load(tiny_checkpoint, weights_only=False)
    checkpoint['meta']['cfg'] = checkpoint['meta']['cfg'].replace("type='FPN'", f"type='{name}'")
    torch.save(checkpoint, tmp_path / 'x.pth')
    with pytest.raises(UserError, match=rf'its config names {name} \(model\.neck\.type\)'):
        CellInferencer(tmp_path / 'x.pth', device='cpu')
