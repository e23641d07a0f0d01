import numpy as np
import pytest
from conftest import ROOT, read_json
from mmengine.runner.checkpoint import save_checkpoint
from pycocotools import mask as mask_utils

from cellseg_mm import CellInferencer
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.engine.run_config import training_config
from cellseg_mm.teaching import read_labelled, teach
from cellseg_mm.teaching.teach import jitter_boxes
from cellseg_mm.utils import UserError
from cellseg_mm.weights import find_checkpoint


@pytest.fixture(scope='module')
def base():
    return find_checkpoint('nuclei-lite0')


@pytest.fixture(scope='module')
def taught(base, prepared, tmp_path_factory):
    path = tmp_path_factory.mktemp('taught') / 'taught.pth'
    content, comparison = teach(base, *read_labelled(prepared))
    save_checkpoint(content, str(path))
    return str(path), comparison


def test_cells_are_the_same_and_have_the_new_classes(base, taught, prepared):
    path, comparison = taught
    before, after = CellInferencer(base, precision='fp32'), CellInferencer(path, precision='fp32')
    assert list(after.classes) == read_json(prepared / 'statistics.json')['classes']
    image = next((prepared / 'images').glob('*.png'))
    old, new = before(image), after(image)
    assert len(old) and new.codes() == old.codes()
    np.testing.assert_allclose(new.scores, old.scores, rtol=1e-4)
    assert len(set(new.labels)) > 1
    # the drawn classes differ in size and colour; the commonest has half of the cells
    assert comparison.before is None and comparison.after > 0.6


def test_what_was_taught_is_kept_in_the_checkpoint(taught, prepared):
    meta = read_checkpoint(taught[0])['meta']
    assert meta['taught']['cells'] == read_json(prepared / 'statistics.json')['instances']['train']


def test_teaching_again_replaces_the_classes(base, taught, prepared):
    images, classes = read_labelled(prepared)
    once, again = read_checkpoint(taught[0]), teach(taught[0], images, classes)[0]
    assert again['state_dict'].keys() == once['state_dict'].keys()
    assert all(np.array_equal(again['state_dict'][name], value) for name, value in once['state_dict'].items())
    assert again['meta']['cfg'] == once['meta']['cfg']


def test_features_do_not_depend_on_the_other_boxes(base, prepared):
    image = read_labelled(prepared)[0][0]
    detector = CellInferencer(base, precision='fp32')
    found = detector.features(image.path, image.boxes)
    assert found.shape == (len(image.boxes), 256 + 96)
    np.testing.assert_allclose(detector.features(image.path, image.boxes[::-1])[::-1], found, atol=1e-4)
    assert detector.features(image.path, image.boxes[:0]).shape == (0, 256 + 96)


def test_a_drawn_box_gives_the_cell_that_the_mask_head_sees(base, prepared):
    """The mask in a found cell's own box is that cell."""
    image = next((prepared / 'images').glob('*.png'))
    detector = CellInferencer(base, precision='fp32', score_thr=0.5)
    cells = detector(image)
    for index, box in enumerate(cells.boxes()[:3]):
        drawn = detector.cell_in_box(image, box)
        iou = mask_utils.iou(drawn.codes(), [cells.codes()[index]], [0])[0, 0]
        assert len(drawn) == 1 and drawn.scores[0] == 1 and iou > 0.8


def test_jittered_boxes_keep_their_place_and_size_on_average():
    boxes = np.tile(np.array([[10, 20, 40, 60]], np.float32), (5000, 1))
    found = jitter_boxes(boxes, np.random.default_rng(0))
    np.testing.assert_allclose(found.mean(axis=0), boxes[0], atol=0.6)
    assert (found[:, 2:] > found[:, :2]).all() and found.std(axis=0).min() > 2


def test_a_detector_that_depends_on_the_class_is_refused(prepared, tmp_path):
    cfg = training_config(
        str(ROOT / 'configs/demo/maskrcnn_r18_fpn.py'), dict(data_root=str(prepared)), str(tmp_path), from_scratch=True
    )
    facts = dict(classes=['a', 'b'])
    path = str(tmp_path / 'r18.pth')
    save_checkpoint(dict(state_dict={}, meta=dict(cfg=cfg.pretty_text, dataset_meta=facts)), path)
    with pytest.raises(UserError, match=r'r18\.pth: its boxes or masks depend on the class'):
        teach(path, *read_labelled(prepared))


def test_one_class_cannot_be_taught(base, prepared):
    images, classes = read_labelled(prepared)
    images = [type(image)(image.path, image.boxes, 0 * image.labels) for image in images]
    with pytest.raises(UserError, match=r'cells of 1 class\(es\)'):
        teach(base, images, classes)
