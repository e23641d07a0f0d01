import io

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_utils

from cellseg_mm.visualization.colors import KIND_COLORS
from cellseg_mm.visualization.error_pictures import draw_errors, plot_confusion_matrix, plot_precision_recall

REPORT = dict(
    score_thr=0.4,
    classes=['a', 'b', 'c'],
    confusion_matrix=[[30, 0, 0, 10], [1, 2, 0, 1], [0, 0, 0, 0], [5, 5, 0, 0]],
    by_class=[
        dict(name='a', recall=0.75, precision=0.8, AP50=0.7),
        dict(name='b', recall=0.5, precision=None, AP50=0.1),
        dict(name='c', recall=None, precision=None, AP50=None),
    ],
    precision_at_recall=[[1.0, 0.5, 0.0], [0.5, 0.25, 0.0], None],
)


def encode(mask):
    return mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))


def test_confusion_matrix_shows_counts_and_row_shares():
    figure = plot_confusion_matrix(REPORT)
    axes = figure.axes[0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts[0, 0] == '30\n75%' and texts[3, 0] == '10\n25%'
    assert texts[1, 3] == '5\n50%' and (3, 3) not in texts
    assert axes.images[0].get_array()[0].tolist() == [0.75, 0, 0, 0.25]
    assert [label.get_text() for label in axes.get_xticklabels()] == ['a', 'b', 'c', 'missed']
    assert [label.get_text() for label in axes.get_yticklabels()] == ['a', 'b', 'c', 'spurious']
    figure.savefig(io.BytesIO())


def test_curves_of_the_classes_that_have_ground_truth():
    figure = plot_precision_recall(REPORT)
    axes = figure.axes[0]
    curves = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in curves] == [[1.0, 0.5, 0.0], [0.5, 0.25, 0.0]]
    assert list(curves[0].get_xdata()) == [0, 0.5, 1]
    dots = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots] == [(0.75, 0.8)]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ['a: AP50 0.700', 'b: AP50 0.100', 'score at least 0.4']


@pytest.fixture
def masks():
    left, right = np.zeros((2, 300, 400), bool)
    left[100:150, 100:150] = right[100:150, 200:260] = True
    return left, right


def test_ground_truth_left_predictions_right_in_the_colours_of_their_kinds(masks):
    left, right = masks
    image = np.full((300, 400, 3), (200, 120, 160), np.uint8)
    picture = draw_errors(
        image,
        [encode(left), encode(right)],
        np.array(['missed', 'correct'], object),
        [encode(right), encode(left)],
        np.array(['correct', 'spurious'], object),
    )
    assert (image == (200, 120, 160)).all()
    scale = 1024 // 400
    half = 400 * scale + 8
    assert picture.shape[1] == 2 * half
    left, right = (np.kron(mask, np.ones((scale, scale))).astype(np.uint8) for mask in masks)
    inside_left, inside_right = (cv2.erode(mask, np.ones((9, 9))) > 0 for mask in (left, right))
    for offset, kind in ((0, 'missed'), (half, 'spurious')):
        side = picture[: 300 * scale, offset : offset + 400 * scale].astype(int)
        outline = (side == KIND_COLORS[kind]).all(axis=2)
        assert outline.any() and not outline[cv2.dilate(left, np.ones((5, 5))) == 0].any()
        white = (side == 255).all(axis=2)
        assert white.any() and not white[cv2.dilate(right, np.ones((5, 5))) == 0].any()
        # tissue and correct cells are nearly grey, the wrong cell is tinted
        colourfulness = np.ptp(side, axis=2)
        assert colourfulness[inside_right].max() < 0.4 * (200 - 120) < colourfulness[inside_left].min()
        assert (side[inside_right] == side[0, 0]).all()


def test_errors_lie_over_correct_cells(masks):
    codes = [encode(masks[0])] * 3
    kinds = np.array(['correct', 'missed', 'correct'], object)
    picture = draw_errors(np.zeros((300, 400, 3), np.uint8), codes, kinds, [], kinds[:0])
    assert (picture[:600, :800] == KIND_COLORS['missed']).all(axis=2).any()
    assert not (picture[:600, :800] == 255).all(axis=2).any()


def test_captions_count_each_kind(masks, monkeypatch):
    captions = []
    monkeypatch.setattr(
        'cellseg_mm.visualization.error_pictures.add_caption',
        lambda image, title, entries, colors: captions.append((title, entries)) or image,
    )
    kinds = np.array(['merged', 'merged'], object)
    draw_errors(np.zeros((300, 400, 3), np.uint8), list(map(encode, masks)), kinds, [], kinds[:0])
    assert captions == [
        ('ground truth: 2 cells', ['correct 0', 'wrong class 0', 'missed 0', 'merged 2', 'split 0']),
        ('predicted: 0 cells', ['correct 0', 'wrong class 0', 'spurious 0', 'merged 0', 'split 0']),
    ]


def test_a_narrow_image_leaves_room_for_its_legend():
    kinds = np.array(['missed'] * 10, object)
    mask = np.zeros((1000, 60), bool)
    mask[10:20, 10:20] = True
    picture = draw_errors(np.zeros((1000, 60, 3), np.uint8), [encode(mask)] * 10, kinds, [], kinds[:0])
    assert picture.shape[1] == 2 * (240 + 8)
    missed = (picture == KIND_COLORS['missed']).all(axis=2)
    assert missed[1000:, :240].any() and not missed[1000:, 248:].any()
