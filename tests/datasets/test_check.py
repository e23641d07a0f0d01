import json
import shutil

import cv2
import numpy as np
import pytest
from conftest import read_json

from cellseg_mm.datasets.check import (
    CellTable,
    Check,
    Images,
    best_correlation,
    check_anchors,
    check_border,
    check_class_balance,
    check_cover,
    check_duplicates,
    check_empty,
    check_files,
    check_prepared_set,
    check_sizes,
    checks_text,
    read_annotations,
    read_files,
)
from cellseg_mm.datasets.formats.sample import overlapping_pairs
from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.structures import read_layers, write_layers
from cellseg_mm.utils import UserError

TRAIN, VAL, TEST = range(3)


def make_images(*splits, size=(100, 100), unlabelled=()):
    count = len(splits)
    maps = ['' if index in unlabelled else f'{index}.tif' for index in range(count)]
    names = np.array([f'{index}.png' for index in range(count)])
    return Images(names, np.array(splits), np.tile(size, (count, 1)), np.array(maps), [[]] * count)


def make_cells(*rows):
    """Cells from (image, label, area[, box]); without a box they lie off the border."""
    boxes = [row[3] if len(row) > 3 else (40, 40, 5, 5) for row in rows]
    images, labels, areas = (np.array([row[column] for row in rows], int) for column in range(3))
    return CellTable(images, labels, areas, np.array(boxes, int).reshape(-1, 4))


@pytest.fixture
def altered(prepared, tmp_path):
    """A copy of the prepared set that a test may change."""
    shutil.copytree(prepared, tmp_path / 'cells')
    return tmp_path / 'cells'


def image_path(root, split, index=0):
    return root / 'images' / read_json(root / f'annotations/{split}.json')['images'][index]['file_name']


def test_reads_what_was_prepared(prepared):
    images, cells, classes = read_annotations(prepared)
    statistics = read_json(prepared / 'statistics.json')
    assert classes == statistics['classes']
    assert np.bincount(images.splits).tolist() == list(statistics['images'].values())
    counts = np.zeros((3, 4), int)
    np.add.at(counts, (images.splits[cells.images], cells.labels), 1)
    assert counts.tolist() == [list(split.values()) for split in statistics['instances'].values()]
    for index in range(0, len(cells.labels), 9):
        layers = cv2.imread(str(prepared / 'instances' / images.maps[cells.images[index]]), cv2.IMREAD_UNCHANGED)
        x, y, width, height = cells.boxes[index]
        assert np.count_nonzero(layers[y : y + height, x : x + width]) >= cells.areas[index]


def test_drawn_tissue_is_whole_and_without_copies_or_absurd_cells(prepared):
    checks = check_prepared_set(prepared)
    assert not any(checks[title].warnings for title in ('files', 'duplicates', 'sizes'))
    assert len(checks['empty images'].warnings) == 1  # it is among the oddities of sample data
    assert len(checks['border'].warnings) == 3  # at 96 px most cells are cut


def brightened(image):
    return np.clip(image * 1.1 + 8, 0, 255).astype(np.uint8)


def encoded_again(image):
    return cv2.imdecode(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)


COPIES = {
    'as it is': lambda image: image,
    'encoded again': encoded_again,
    'brightened': brightened,
    'mirrored': lambda image: image[:, ::-1],
    'turned': lambda image: np.rot90(image),
    'turned, mirrored and brightened': lambda image: brightened(np.rot90(image, 3)[::-1]),
    'blurred': lambda image: cv2.GaussianBlur(image, (0, 0), 2),
    'half the size': lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
}


@pytest.mark.parametrize('kind', COPIES)
def test_a_copy_in_another_split_is_found(altered, kind):
    source, target = image_path(altered, 'train', 5), image_path(altered, 'test', 1)
    cv2.imwrite(str(target), np.ascontiguousarray(COPIES[kind](cv2.imread(str(source)))))
    check = check_prepared_set(altered)['duplicates']
    row = next(line for line in check.table.splitlines() if f'train/{source.name}' in line)
    assert f'test/{target.name}' in row and len(check.warnings) == 1
    assert ('same pixels' in row) == (kind == 'as it is')
    assert check.summary.endswith(': 1')


def test_a_copy_within_a_split_is_not_reported(altered):
    shutil.copy(image_path(altered, 'train', 5), image_path(altered, 'train', 6))
    assert not check_prepared_set(altered)['duplicates'].warnings


def test_flat_images_are_alike_only_if_they_are_the_same():
    images = make_images(TRAIN, VAL, TEST)
    thumbnails = np.full((3, 32, 32), 240.0)
    thumbnails[1] += np.random.default_rng(0).normal(0, 0.2, (32, 32))
    assert best_correlation(thumbnails).max() == 0
    check = check_duplicates(images, thumbnails, np.array(['a', 'b', 'a']))
    assert len(check.table.splitlines()) == 3 and 'same pixels' in check.table
    assert not check_duplicates(images, thumbnails, np.array(['', '', ''])).warnings  # not readable


def test_correlation_is_the_best_of_eight_orientations():
    """Against numpy's own correlation, on each pair of distinct pictures."""
    rng = np.random.default_rng(0)
    one, other = rng.uniform(0, 255, (2, 32, 32))
    orientations = [np.rot90(flipped, turns) for flipped in (one, one[::-1]) for turns in range(4)]
    found = best_correlation(np.stack([one, other, *orientations]))
    expected = max(np.corrcoef(turned.ravel(), other.ravel())[0, 1] for turned in orientations)
    assert found[0, 1] == pytest.approx(expected, abs=1e-5)
    assert found[0, 2:] == pytest.approx(1) and found[1, 2:] == pytest.approx(expected, abs=1e-5)


def test_different_tissue_is_far_from_the_limit():
    pictures = [draw_tissue(np.random.default_rng(seed), 128, 128, 2.0)[0] for seed in range(12)]
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in pictures]
    thumbnails = np.stack([cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA) for picture in grey])
    correlation = best_correlation(thumbnails)
    assert correlation[~np.eye(12, dtype=bool)].max() < 0.6


def test_files_that_are_lost_or_of_another_size(altered):
    images, _, _ = read_annotations(altered)
    names, maps = images.names.tolist(), images.maps.tolist()
    (altered / 'images' / names[0]).unlink()
    (altered / 'images' / names[1]).write_text('no image')
    (altered / 'instances' / maps[2]).unlink()
    height, width = images.sizes[3].tolist()
    write_layers(altered / 'instances' / maps[3], np.zeros((1, height, width + 1), np.int32))
    cv2.imwrite(str(altered / 'images' / names[4]), np.zeros((5, 7, 3), np.uint8))
    thumbnails, digests, problems = read_files(altered, images)
    height4, width4 = images.sizes[4].tolist()
    assert problems == [
        f'images/{names[0]} is missing or not readable',
        f'images/{names[1]} is missing or not readable',
        f'instances/{maps[2]} is missing or not readable',
        f'instances/{maps[3]} has {width + 1}x{height} px, the annotations say {width}x{height}',
        f'images/{names[4]} has 7x5 px, the annotations say {width4}x{height4}',
    ]
    assert not thumbnails[:2].any() and digests[0] == digests[1] == ''
    assert check_files(images, problems).warnings == problems
    assert check_files(images, problems).summary.endswith('missing or of another size: 5')


def test_long_lists_are_cut():
    check = check_files(make_images(TRAIN), [f'problem {number}' for number in range(25)])
    assert len(check.warnings) == 21 and check.warnings[-1] == 'and 5 more'


def test_class_balance():
    images = make_images(TRAIN, VAL, TEST)
    cells = make_cells(*[(0, 0, 99)] * 80, *[(0, 1, 99)] * 20, *[(1, 0, 99)] * 19, (1, 1, 99), *[(2, 0, 99)] * 9)
    check = check_class_balance(images, cells, ['a', 'b'])
    assert check.warnings == ['b is 5.0% of the cells of val, but 20.0% in train', 'test has no cell of class b']
    assert '| b     |    20 | 20.0% |   1 |  5.0% |    0 |   0.0% |' in check.table
    # within a factor of three; and a test split without labels need not have any
    cells = make_cells(*[(0, 0, 99)] * 80, *[(0, 1, 99)] * 20, *[(1, 0, 99)] * 9, (1, 1, 99))
    images = make_images(TRAIN, VAL, TEST, unlabelled=[2])
    assert not check_class_balance(images, cells, ['a', 'b']).warnings
    # a class that train lacks is named once, where it is missing
    cells = make_cells((0, 0, 99), (1, 0, 99), (1, 1, 99))
    assert check_class_balance(images, cells, ['a', 'b']).warnings == ['train has no cell of class b']


def test_border():
    """Boxes at each edge and one px off it, in an image of 100 x 50 px (width x height)."""
    images = make_images(TRAIN, VAL, size=(50, 100))
    boxes = [(0, 9, 5, 5), (9, 0, 5, 5), (95, 9, 5, 5), (9, 45, 5, 5), (1, 1, 98, 48)]
    cells = make_cells(*[(0, 0, 25, box) for box in boxes], (1, 0, 25), (1, 0, 25, boxes[0]))
    assert cells.on_border(images).tolist() == [True] * 4 + [False, False, True]
    check = check_border(images, cells)
    assert check.summary.startswith('cells that touch it: 80.0% of train, 50.0% of val')
    assert len(check.warnings) == 1 and check.warnings[0].startswith('80.0% of the cells of train')
    assert check_border(images, make_cells()).warnings == []


def test_absurd_sizes():
    rng = np.random.default_rng(0)
    areas = np.exp(rng.normal(np.log(300), 0.3, 500)).round().astype(int)
    assert not (areas < 80).any() and not (areas > 1100).any()
    usual = [(0, 0, area) for area in areas]
    images, classes = make_images(TRAIN, VAL), ['a', 'b']
    assert not check_sizes(images, make_cells(*usual), classes).warnings
    edge = (0, 5, 9, 9)
    planted = [(1, 0, 30), (1, 0, 3000, (10, 20, 60, 70)), (0, 1, 9), (1, 0, 9, edge), (1, 0, 3000, edge)]
    accepted = [(1, 0, 30, edge), (1, 1, 12), (1, 1, 11)]  # cut by the border; of a class of few and small cells
    check = check_sizes(images, make_cells(*usual, *planted, *accepted), classes)
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in check.table.splitlines()[2:]]
    assert sorted(row[:3] for row in rows) == sorted(
        [f'{("train", "val")[image]}/{image}.png', classes[label], str(area)] for image, label, area, *_ in planted
    )
    assert ['val/1.png', 'a', '3000', '10 20 60 70'] in [[*row[:3], row[4]] for row in rows]
    assert len(check.warnings) == 1 and check.summary.endswith('5 of 508 cells')
    assert all(row[3] == str(round(np.exp(np.median(np.log([*areas, 30, 3000]))))) for row in rows if row[1] == 'a')


def test_cells_of_one_size_do_not_warn_at_each_px():
    cells = make_cells(*[(0, 0, 100)] * 50, (0, 0, 110), (0, 0, 90))
    assert not check_sizes(make_images(TRAIN), cells, ['a']).warnings


def test_empty_images():
    images = make_images(TRAIN, TRAIN, TEST, TEST, unlabelled=[3])
    check = check_empty(images, make_cells((0, 0, 99)))
    assert [line.split(':')[0] for line in check.warnings] == ['train/1.png', 'test/2.png']
    assert check.summary == '2 of 3 labelled images have no cell'


def two_disks(distance):
    """Two disks of radius 10 px, in layers of their own, and what the second shares of the first."""
    y, x = np.mgrid[:60, :90]
    one, other = (np.hypot(x - centre, y - 30) < 10 for centre in (30, 30 + distance))
    return np.stack([one * 1, other * 2]), (one & other).sum() / one.sum()


def test_pairs_that_overlap():
    assert overlapping_pairs(two_disks(30)[0]) == []
    assert overlapping_pairs(two_disks(0)[0][:1]) == []
    for distance in range(1, 20):
        layers, shared = two_disks(distance)
        assert overlapping_pairs(layers) == ([(1, 2)] if shared > 0.5 else [])
    nested = two_disks(0)[0]
    nested[1, :, 31:] = 0  # a part of the first alone
    assert overlapping_pairs(nested) == [(1, 2)]


def cells_of(root, split='train'):
    """The first image of a split with two cells at least: its content, its entries and its layers."""
    path = root / f'annotations/{split}.json'
    content = read_json(path)
    for image in content['images']:
        entries = [entry for entry in content['annotations'] if entry['image_id'] == image['id']]
        if len(entries) > 2:
            return path, content, image, entries, read_layers(root / 'instances' / image['instance_map'])
    raise AssertionError(split)


def doubled(root):
    """A cell a second time, as a further layer."""
    path, content, image, entries, layers = cells_of(root)
    number = len(entries) + 1
    mask = (layers == entries[0]['instance_id']).any(axis=0)
    write_layers(root / 'instances' / image['instance_map'], np.concatenate([layers, [mask * number]]))
    content['annotations'].append(dict(entries[0], id=10**6, instance_id=number))
    path.write_text(json.dumps(content))
    return image


def scattered(root):
    """Six squares of one id."""
    _, _, image, entries, layers = cells_of(root)
    layer = np.zeros_like(layers[0])
    for place in range(6):
        layer[5:10, 10 * place + 5 : 10 * place + 10] = entries[0]['instance_id']
    write_layers(root / 'instances' / image['instance_map'], np.concatenate([layers, [layer]]))
    return image


def ignored(root):
    """A region over all of the image."""
    path, content, image, entries, layers = cells_of(root)
    number = len(entries) + 1
    layer = np.full_like(layers[0], number)
    write_layers(root / 'instances' / image['instance_map'], np.concatenate([layers, [layer]]))
    content['annotations'].append(dict(entries[0], id=10**6, instance_id=number, iscrowd=1))
    path.write_text(json.dumps(content))
    return image


@pytest.mark.parametrize('title, damage', [('overlaps', doubled), ('parts', scattered), ('ignored', ignored)])
def test_a_fault_of_the_maps_names_its_image(altered, title, damage):
    titles = ('overlaps', 'parts', 'ignored', 'cover')
    assert not any(check_prepared_set(altered)[name].warnings for name in titles)
    image = damage(altered)
    checks = check_prepared_set(altered)
    assert [name for name in titles if checks[name].warnings] == [title]
    assert len(checks[title].warnings) == 1 and f'train/{image["file_name"]}' in checks[title].table
    assert len(checks[title].table.splitlines()) == 3 and ' 1 image' in checks[title].summary


def test_a_cell_that_covers_its_image():
    images = make_images(TRAIN, VAL)
    assert not check_cover(images, make_cells((0, 0, 5000), (1, 0, 99))).warnings
    check = check_cover(images, make_cells((0, 0, 99), (1, 0, 5001), (1, 0, 9000)))
    assert len(check.warnings) == 1 and check.summary.endswith('2 in 1 images')
    assert check.table.splitlines()[2:] == ['| val/1.png |     2 |']


def test_anchors():
    best_iou, labels = np.array([0.2, 0.3, 0.9, 0.29]), np.array([0, 0, 1, 1])
    check = check_anchors(best_iou, labels, ['a', 'b', 'c'], 0.3, 0.49)
    assert 'below 0.3 for 50.0% of 4 training cells' in check.summary and len(check.warnings) == 1
    assert [line.split('|')[3].strip() for line in check.table.splitlines()[2:]] == ['50.0%', '50.0%', '']
    assert not check_anchors(best_iou, labels, ['a', 'b', 'c'], 0.3, 0.5).warnings
    assert not check_anchors(np.zeros(0), np.zeros(0, int), ['a'], 0.3, 0.1).warnings


def test_text():
    text = checks_text({'one': Check('well', []), 'two': Check('bad', ['look'], '| a |\n|---|')})
    assert text.splitlines() == [
        'ok      one: well',
        'WARNING two: bad',
        '        | a |',
        '        |---|',
        '        ! look',
    ]


def test_what_is_no_prepared_set(altered, tmp_path):
    with pytest.raises(UserError, match=r'train\.json: .*tools/prepare_data\.py'):
        read_annotations(tmp_path)
    path = altered / 'annotations/val.json'
    content = read_json(path)
    entry = content['annotations'][0]
    for broken, message in (
        ('no json', 'is not valid JSON .*tools/prepare_data'),
        ([], 'not a COCO annotation file; it needs images'),
        (dict(content, categories=[]), 'annotation entry 0: category_id is 1, expected the id of a listed category'),
        (dict(content, annotations=[entry, dict(entry, image_id=99)]), '1: image_id is 99, expected the id of a liste'),
        (dict(content, annotations=[dict(entry, iscrowd=None)]), 'annotation entry 0: iscrowd is None, expected 0 or'),
    ):
        path.write_text(broken if isinstance(broken, str) else json.dumps(broken))
        with pytest.raises(UserError, match=rf'val\.json: .*{message}') as caught:
            read_annotations(altered)
        assert '\n' not in str(caught.value)
    for split in ('train', 'val', 'test'):
        (altered / f'annotations/{split}.json').write_text(json.dumps(dict(content, images=[], annotations=[])))
    with pytest.raises(UserError, match='list no images'):
        read_annotations(altered)
