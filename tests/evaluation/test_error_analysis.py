import numpy as np
import pytest
from pycocotools import mask as mask_utils

from cellseg_mm.evaluation import make_scenes, panoptic_counts
from cellseg_mm.evaluation.error_analysis import (
    analyze_errors,
    confusion_matrix,
    error_kinds,
    errors_markdown,
    group_by_image,
    merge_pairs,
    merges_and_splits,
    scene_codes,
    split_pairs,
    worst_images,
)

HEIGHT, WIDTH = 40, 60


def box_mask(x1, y1, x2, y2):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y1:y2, x1:x2] = 1
    return mask


def encode(mask):
    code = mask_utils.encode(np.asfortranarray(mask))
    return dict(size=code['size'], counts=code['counts'].decode())


def content(*images, classes=('a', 'b')):
    """COCO content from images, each a list of (box or mask, class index[, is ignored]) for its cells."""
    annotations = []
    for image_id, cells in enumerate(images, start=1):
        for shape, label, *ignored in cells:
            mask = shape if isinstance(shape, np.ndarray) else box_mask(*shape)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=label + 1,
                    segmentation=encode(mask),
                    area=int(mask.sum()),
                    bbox=mask_utils.toBbox(encode(mask)).tolist(),
                    iscrowd=int(bool(ignored)),
                )
            )
    return dict(
        images=[
            dict(id=index, file_name=f'image_{index}.png', height=HEIGHT, width=WIDTH)
            for index in range(1, len(images) + 1)
        ],
        annotations=annotations,
        categories=[dict(id=index, name=name) for index, name in enumerate(classes, start=1)],
    )


def found(image_id, box, label, score=0.9):
    mask = box_mask(*box)
    return dict(image_id=image_id, category_id=label + 1, score=score, segmentation=encode(mask), bbox=[*box[:2], 1, 1])


def one_scene(cells, predictions):
    return make_scenes(content(cells), [found(1, *prediction) for prediction in predictions])[0]


def test_confusion_matrix_counts_each_outcome():
    """Cells: one found, one found as the other class, two missed. Predictions besides: one spurious."""
    scene = one_scene(
        [((0, 0, 10, 10), 0), ((20, 0, 30, 10), 0), ((40, 0, 50, 10), 1), ((0, 20, 10, 30), 1)],
        [((0, 0, 10, 9), 0), ((20, 0, 30, 10), 1), ((40, 5, 50, 15), 1)],  # the last has IoU 1/3
    )
    expected = [[1, 1, 0], [0, 0, 2], [0, 1, 0]]
    assert confusion_matrix([scene], 2).tolist() == expected
    assert confusion_matrix([scene, scene], 2).tolist() == (2 * np.array(expected)).tolist()
    assert confusion_matrix([one_scene([], [])], 2).tolist() == np.zeros((3, 3)).tolist()


def test_an_iou_of_one_half_is_no_match():
    cells = [((0, 0, 10, 10), 0)]
    assert confusion_matrix([one_scene(cells, [((0, 0, 10, 5), 0)])], 2)[0].tolist() == [0, 0, 1]
    assert confusion_matrix([one_scene(cells, [((0, 0, 10, 6), 0)])], 2)[0].tolist() == [1, 0, 0]


def test_a_merge_holds_more_than_half_of_two_cells():
    cells = [((0, 0, 10, 10), 0), ((10, 0, 20, 10), 0), ((20, 0, 30, 10), 0)]
    for right, merged in ((15, 0), (16, 2), (25, 2), (26, 3)):  # up to the half of a cell, and beyond it
        scene = one_scene(cells, [((0, 0, right, 10), 1)])
        assert merge_pairs(scene).sum() == merged
        merges, splits = merges_and_splits(scene, 2)
        assert merges.tolist() == [0, int(merged > 0)] and splits.tolist() == [0, 0]


def test_a_split_cell_holds_more_than_half_of_two_predictions():
    cell = [((0, 0, 20, 10), 1)]
    for left, is_split in ((10, True), (14, True), (15, False), (25, False)):  # of its 10 px, 10, 6, 5 and 0 inside
        scene = one_scene(cell, [((0, 0, 8, 10), 0), ((left, 0, left + 10, 10), 0)])
        assert split_pairs(scene).sum() == 2 * is_split
        assert merges_and_splits(scene, 2)[1].tolist() == [0, int(is_split)]


def test_a_second_prediction_of_the_same_cell_is_no_split():
    """What is left of the lower one under the higher is too little to be a cell."""
    scene = one_scene([((0, 0, 20, 10), 0)], [((0, 0, 20, 10), 0, 0.9), ((0, 0, 20, 9), 0, 0.4)])
    assert len(scene.labels) == 1 and not split_pairs(scene).any()


def test_kinds_put_merges_before_splits_before_matches():
    scene = one_scene(
        [
            ((0, 0, 10, 10), 0),  # found
            ((0, 20, 10, 30), 0),  # found as b
            ((50, 30, 60, 40), 0),  # missed
            ((20, 0, 30, 10), 0),  # merged
            ((30, 0, 36, 6), 0),  # merged, and so is the one above though it matches by IoU
            ((20, 20, 40, 30), 1),  # split
        ],
        [
            ((0, 0, 10, 10), 0, 0.9),
            ((0, 20, 10, 30), 1, 0.8),
            ((20, 0, 36, 10), 0, 0.7),
            ((20, 20, 30, 30), 1, 0.6),
            ((30, 20, 40, 30), 1, 0.5),
            ((45, 15, 55, 25), 1, 0.4),
        ],
    )
    gt_kinds, kinds = error_kinds(scene)
    assert gt_kinds.tolist() == ['correct', 'wrong class', 'missed', 'merged', 'merged', 'split']
    assert kinds.tolist() == ['correct', 'wrong class', 'merged', 'split', 'split', 'spurious']
    assert scene.matches()[0].tolist().count(3) == 1  # the merging prediction matches its larger cell


@pytest.fixture
def two_images():
    """Image 1 is right but for a low-scored prediction; of image 2, one cell is missed and one found as b."""
    ground_truth = content(
        [((0, 0, 10, 10), 0), ((20, 0, 30, 10), 1)], [((0, 0, 10, 10), 0), ((20, 0, 30, 10), 0)], [], classes='abc'
    )
    results = [
        found(1, (0, 0, 10, 10), 0, 0.9),
        found(1, (20, 0, 30, 10), 1, 0.8),
        found(1, (40, 0, 50, 10), 1, 0.2),
        found(2, (0, 0, 10, 8), 1, 0.7),
    ]
    return ground_truth, results, make_scenes(ground_truth, results)


def test_report_in_closed_form(two_images):
    report = analyze_errors(*two_images, score_thr=0.5)
    assert report['confusion_matrix'] == [[1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    a, b, c = report['by_class']
    assert a == dict(
        name='a', ground_truth=3, predicted=1, correct=1, wrong_class=1, missed=1, spurious=0, merges=0, splits=0,
        recall=1 / 3, precision=1.0, AP50=a['AP50'],
    )  # fmt: skip
    assert b['precision'] == 0.5 and b['recall'] == 1
    assert c['ground_truth'] == 0 and c['recall'] is c['precision'] is c['AP50'] is None
    total = report['total']
    assert [total[key] for key in ('ground_truth', 'predicted', 'correct', 'wrong_class', 'missed')] == [4, 3, 2, 1, 1]
    assert [image['pq'] for image in report['images']] == [1.0, pytest.approx(2 * 0.8 / 3), None]
    assert worst_images(report, 5) == [1, 0]  # an empty image is neither good nor bad
    assert worst_images(report, 1) == [1]
    # class a: one of three found, at full precision up to recall 1/3
    assert a['AP50'] == pytest.approx(34 / 101)
    assert report['precision_at_recall'][0] == [1.0] * 34 + [0.0] * 67
    assert report['precision_at_recall'][2] is None


def test_the_threshold_cuts_matching_but_not_the_curve(two_images):
    low, high = (analyze_errors(*two_images, score_thr=value) for value in (0.0, 0.75))
    assert low['total']['spurious'] == 1 and high['total']['predicted'] == 2
    assert high['images'][1]['pq'] == 0 and high['images'][1]['missed'] == 2
    assert low['precision_at_recall'] == high['precision_at_recall']
    assert [entry['AP50'] for entry in low['by_class']] == [entry['AP50'] for entry in high['by_class']]


def test_counts_agree_with_panoptic_counts():
    """Random boxes: correct, ground truth and predicted of each class are those that PQ is made of."""
    rng = np.random.default_rng(3)

    def boxes(count):
        corner = rng.integers(0, [WIDTH - 12, HEIGHT - 12], (count, 2))
        return np.hstack([corner, corner + rng.integers(4, 12, (count, 2))]).tolist()

    cells = [[(box, int(rng.integers(2))) for box in boxes(8)] for _ in range(6)]
    ground_truth = content(*cells)
    results = [
        found(image_id, np.clip(np.add(box, rng.integers(-1, 2)), 0, 60).tolist(), label, float(rng.uniform()))
        for image_id, image in enumerate(cells, start=1)
        for box, label in image
    ]
    scenes = make_scenes(ground_truth, results)
    report = analyze_errors(ground_truth, results, scenes, 0.3)
    expected = panoptic_counts([scene.above(0.3) for scene in scenes], 2).pooled()
    assert expected.matched.sum() > 10
    for key, values in (('correct', expected.matched), ('ground_truth', expected.actual)):
        assert [entry[key] for entry in report['by_class']] == values.tolist()
    assert [entry['predicted'] for entry in report['by_class']] == expected.predicted.tolist()


def test_markdown_holds_the_tables(two_images):
    text = errors_markdown(analyze_errors(*two_images, score_thr=0.5), 1)
    lines = text.splitlines()
    assert any(line.startswith('| all   |            4 |         3 |') for line in lines)
    assert any(line.startswith('| spurious |') for line in lines)
    assert 'image_2.png' in text and 'image_1.png' not in text
    assert 'score of at least 0.5' in text


def test_scene_codes_are_those_of_the_scene():
    """Overlapping predictions, one that vanishes under another, and one in an ignored region."""
    ground_truth = content([((0, 0, 10, 10), 0), ((40, 0, 60, 20), 0, True), ((20, 0, 30, 10), 1)])
    results = [
        found(1, (0, 0, 10, 10), 0, 0.5),
        found(1, (1, 0, 10, 9), 0, 0.4),  # nothing of it is left
        found(1, (6, 0, 18, 10), 0, 0.9),  # on top
        found(1, (42, 2, 50, 10), 0, 0.8),  # in the ignored region
        found(1, (20, 0, 30, 10), 1, 0.3),
    ]
    scene = make_scenes(ground_truth, results)[0]
    gt_codes, codes = scene_codes(*group_by_image(ground_truth, results)[0])
    assert [int(mask_utils.area(code)) for code in gt_codes] == scene.gt_areas.tolist() == [100, 100]
    assert [int(mask_utils.area(code)) for code in codes] == scene.areas.tolist() == [120, 60, 100]
    assert np.array_equal(mask_utils.decode(codes[1]), box_mask(0, 0, 6, 10))


def test_grouping_keeps_the_images_order_and_refuses_what_does_not_belong():
    ground_truth = content([((0, 0, 10, 10), 0)], [])
    results = [found(2, (0, 0, 5, 5), 0), found(1, (0, 0, 5, 5), 1)]
    parts = group_by_image(ground_truth, results)
    assert [part['images'][0]['id'] for part, _ in parts] == [1, 2]
    assert [len(part['annotations']) for part, _ in parts] == [1, 0]
    assert [[entry['category_id'] for entry in own] for _, own in parts] == [[2], [1]]
    code = encode(np.zeros((3, 4), np.uint8))
    for change, message in (
        (dict(image_id=7), 'result 1: the annotations have no image_id 7'),
        (dict(category_id=3), 'result 1: the annotations have no category_id 3'),
        (dict(segmentation=code), r'result 1: its mask has size \[3, 4\], but its image \[40, 60\]'),
        (dict(segmentation=[[0, 0, 1, 1]]), 'result 1: its segmentation is not a compressed run-length code'),
    ):
        with pytest.raises(ValueError, match=message):
            group_by_image(ground_truth, [results[0], dict(results[1], **change)])
