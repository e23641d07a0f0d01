import json
import random
import re
import struct
import zipfile

import cv2
import numpy as np
import pytest
from conftest import read_json
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils
from random_results import annotation, disc, encode, make_ground_truth, random_results

from cellseg_mm.structures import decode_runs
from cellseg_mm.submission import (
    check_submission,
    findings,
    read_image_list,
    score_results,
    write_submission,
    write_test_set,
)
from cellseg_mm.submission.zip_file import MAX_BYTES, MEMBER
from cellseg_mm.utils import UserError

IMAGES = [
    dict(file_name='a.tif', id=1, height=60, width=90),
    dict(file_name='b.tif', id=2, height=33, width=86),
]


def good_results():
    """Five discs of 11 px in each image."""
    return [
        annotation(image['id'], index % 4, encode(disc((image['height'], image['width']), (x, 16), 5)), score=0.5)
        for image in IMAGES
        for index, x in enumerate((10, 24, 38, 52, 66))
    ]


def write_zip(path, text, member=MEMBER):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, text)


def problems_of(path, **options):
    return check_submission(path, IMAGES, num_classes=4, **options).problems


def test_a_good_file_passes(tmp_path):
    path = tmp_path / 'any name.zip'
    assert write_submission(path, good_results()) == 0
    assert check_submission(path, IMAGES, num_classes=4) == (good_results(), [], [])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_boxes_of_another_rounding_pass(tmp_path):
    """Floats, boxes that count the last pixel in and boxes of the whole image are no mistakes."""
    results = good_results()
    whole = encode(np.ones((60, 90)))
    results[0].update(segmentation=whole, bbox=[0, 0, 91, 61], score=1, category_id=4)
    results[1]['bbox'] = [value + 0.25 for value in results[1]['bbox']]
    results[2].update(segmentation=whole, bbox=[-0.001, 0, 90.002, 60], score=0)
    write_submission(tmp_path / 'x.zip', results)
    assert not problems_of(tmp_path / 'x.zip')


def test_a_poor_mask_that_fits_its_box_as_corners_by_chance_passes(tmp_path):
    results = good_results()
    results[0]['bbox'] = [5, 11, 16, 22]  # of a mask at [5, 11, 11, 11]
    write_submission(tmp_path / 'x.zip', results)
    assert not problems_of(tmp_path / 'x.zip')


# Mistakes in entry 6, the second of image 2, or where the text says. Each gives one line, of its own wording.


def with_key(key, value):
    """The entry with another value."""
    return lambda results: results[6].update({key: value})


def with_code(**values):
    """The entry with another segmentation."""
    return lambda results: results[6].update(segmentation=dict(results[6]['segmentation'], **values))


def with_counts(change):
    def apply(results):
        results[6]['segmentation']['counts'] = change(results[6]['segmentation']['counts'])

    return apply


def without_image_2(results):
    del results[5:]


def as_corners(results):
    """All of them; those that would then reach beyond their image are left out."""
    results[:] = [entry for entry in results if entry['bbox'][0] < 40]
    for entry in results:
        x, y, w, h = entry['bbox']
        entry['bbox'] = [x, y, x + w, y + h]


def row_by_row(results):
    """A mask written as if H and W were exchanged."""
    code = dict(encode(disc((33, 86), (66, 16), 5).T), size=[33, 86])
    results[6].update(segmentation=code, bbox=[61, 11, 11, 11])


WRONG_ENTRIES = {
    'an entry that is not an object': (
        lambda results: results.append([1]),
        r'entry 10: is a JSON list, expected an object',
    ),
    'no score': (lambda results: results[6].pop('score'), r'entry 6, image 2: has no score'),
    'no image_id': (lambda results: results[6].pop('image_id'), r'entry 6, image None: has no image_id'),
    'unknown image': (with_key('image_id', 7), r'entry 6, image 7: image_id is not listed, expected one of 1 to 2'),
    'image as text': (with_key('image_id', '2'), r"entry 6, image '2': image_id is a JSON text, expected a whole"),
    'image as float': (with_key('image_id', 2.0), r'entry 6, image 2.0: image_id is a JSON number, expected a whole'),
    'image left out': (without_image_2, r'image 2 \(b\.tif\): no detection.*--allow-empty'),
    'class from 0 on': (with_key('category_id', 0), r'category_id is 0, expected a whole number from 1 to 4'),
    'class 5 of 4': (with_key('category_id', 5), r'category_id is 5, expected'),
    'class as boolean': (with_key('category_id', True), r'category_id is True, expected'),
    'score in percent': (with_key('score', 95), r'entry 6, image 2: score is 95, expected a number from 0 to 1'),
    'score as text': (with_key('score', '0.5'), r"score is '0\.5', expected"),
    'three numbers': (with_key('bbox', [1, 2, 3]), r'bbox is \[1, 2, 3\], expected 4 finite numbers'),
    'box in a box': (with_key('bbox', [[1, 2, 3, 4]]), r'bbox is \[\[1, 2, 3, 4\]\], expected 4 finite numbers'),
    'boolean in a box': (with_key('bbox', [19, 11, True, 11]), r'bbox is \[19, 11, True, 11\], expected 4 finite'),
    'boundless box': (
        with_key('bbox', [19, 11, 10**400, 11]),
        r'bbox is \[19, 11, 10+\.\.\.0+, 11\], expected 4 finite',
    ),
    'no area': (with_key('bbox', [19, 11, 0, 11]), r'bbox is \[19, 11, 0, 11\], expected w and h above 0'),
    'outside': (with_key('bbox', [19, 11, 11, 30]), r'bbox is \[19, 11, 11, 30\], expected .* within 86x33 px \(width'),
    'corners': (as_corners, r'bbox \[5\.0, 11\.0, 16\.0, 22\.0\] fits the mask as \[x1, y1, x2, y2\], .* 6 of 6'),
    'mask of row order': (row_by_row, r'bbox \[61, .*\] does not touch the mask, whose box is .*column by column'),
    'polygons': (with_key('segmentation', [[1, 1, 9, 1, 9, 9]]), r'segmentation is a JSON list \(polygons\?\)'),
    'no counts': (with_key('segmentation', dict(size=[33, 86])), r'segmentation is a JSON object, expected an object'),
    'exchanged size': (with_code(size=[86, 33]), r'size \[86, 33\], which is \[W, H\], expected \[H, W\]: \[33, 86\]'),
    "another image's size": (with_code(size=[60, 90]), r'has size \[60, 90\], expected \[H, W\]: \[33, 86\]'),
    'size of floats': (with_code(size=[33.0, 86.0]), r'has size \[33\.0, 86\.0\], expected'),
    'plain run lengths': (with_code(counts=[0, 2838]), r'has counts as a list, .*frPyObjects'),
    'counts of no text': (with_code(counts=None), r'has counts as a JSON null, expected a text'),
    'text of bytes': (
        with_counts(lambda text: str(text.encode())),
        r'does not decode: a character .*counts\.decode\(\)',
    ),
    'foreign character': (
        with_counts(lambda text: text + '€'),
        r'does not decode: a character outside the alphabet of run-length codes',
    ),
    'code cut off': (with_counts(lambda text: text[:4]), r'does not decode: runs over \d+ px in an image of 2838'),
    'torn number': (with_counts(lambda text: text[:-1] + 'o'), r'does not decode: ends within a number'),
    'negative run': (with_counts(lambda text: 'N' + text), r'does not decode: a run of negative length'),
    'empty code': (with_code(counts=''), r'does not decode: runs over 0 px'),
    'empty mask': (with_code(counts=encode(np.zeros((33, 86)))['counts']), r'segmentation has no pixel'),
}

OF_THE_WHOLE_FILE = ('an entry that is not an object', 'image left out', 'corners')


@pytest.mark.parametrize('name', WRONG_ENTRIES)
def test_wrong_entries(name, tmp_path):
    change, expected = WRONG_ENTRIES[name]
    results = good_results()
    change(results)
    write_zip(tmp_path / 'x.zip', json.dumps(results))
    (problem,) = problems_of(tmp_path / 'x.zip')
    assert re.search(expected, problem), problem
    assert problem.startswith('entry 6, image') or name in OF_THE_WHOLE_FILE


def not_a_zip(path, text):
    path.write_text(text)


def empty_file(path, text):
    path.write_bytes(b'')


def cut_off(path, text):
    write_zip(path, text)
    path.write_bytes(path.read_bytes()[:-40])


def one_bit_off(path, text):
    """In the compressed data: the checksum differs."""
    write_zip(path, text)
    data = bytearray(path.read_bytes())
    data[data.index(MEMBER.encode()) + len(MEMBER) + 60] ^= 1
    path.write_bytes(data)


def claims_to_be_huge(path, text):
    write_zip(path, text)
    data = bytearray(path.read_bytes())
    struct.pack_into('<I', data, data.index(b'PK\x01\x02') + 24, MAX_BYTES + 1)  # the directory's unpacked size
    path.write_bytes(data)


def understates_its_size(path, text):
    write_zip(path, text)
    data = bytearray(path.read_bytes())
    struct.pack_into('<I', data, data.index(b'PK\x01\x02') + 24, 100)
    path.write_bytes(data)


def needs_a_password(path, text):
    write_zip(path, text)
    data = bytearray(path.read_bytes())
    data[data.index(b'PK\x01\x02') + 8] |= 1
    data[6] |= 1
    path.write_bytes(data)


def in_a_folder(path, text):
    write_zip(path, text, f'out/{MEMBER}')


def of_another_name(path, text):
    with zipfile.ZipFile(path, 'w') as archive:
        for name in ('results.json', 'a', 'b', 'c', 'd'):
            archive.writestr(name, text)


def without_a_file(path, text):
    zipfile.ZipFile(path, 'w').close()


def with_text(change):
    return lambda path, text: write_zip(path, change(text))


WRONG_FILES = {
    'not a zip': (
        not_a_zip,
        r"not a zip file .it starts with b'\[\{\"image_id\": 1.*put test-results\.json into a zip",
    ),
    'empty file': (empty_file, r"not a zip file .it starts with b''"),
    'cut off': (cut_off, r'the zip is cut off \(no table of contents\)'),
    'damaged': (one_bit_off, r'the zip is damaged \((Bad CRC-32|Error -3)'),
    'bomb': (claims_to_be_huge, r'would unpack to 1,073,741,825 bytes, more than 1,073,741,824; it is not unpacked'),
    'disguised bomb': (understates_its_size, r'the zip is damaged \(Bad CRC-32'),
    'password': (needs_a_password, r'the zip is damaged \(.*password'),
    'in a folder': (in_a_folder, r'no test-results\.json at the top level; the zip holds out/test-results\.json'),
    'another name': (
        of_another_name,
        r'no test-results\.json at the top level; the zip holds results\.json, a, b and 2',
    ),
    'empty zip': (without_a_file, r'no test-results\.json at the top level; the zip holds nothing'),
    'broken JSON': (with_text(lambda text: text[:-1]), r"broken JSON \(Expecting ',' delimiter: line 1 column \d+"),
    'no text': (with_text(lambda text: b'\xff\xfe\xff'), r'broken JSON \(.*decode'),
    'nested without end': (with_text(lambda text: '[' * 100_000), r'broken JSON \(nested too deeply\)'),
    'NaN': (with_text(lambda text: text.replace('0.5', 'NaN', 1)), r'holds NaN 1 times, which JSON does not'),
    'infinity': (with_text(lambda text: text.replace('0.5', '-Infinity')), r'holds -Infinity 10 times'),
    'an object': (
        with_text(lambda text: f'{{"annotations": {text}}}'),
        r"is a JSON object with \['annotations'\], exp",
    ),
    'a number': (with_text(lambda text: '3'), r'is a JSON number, expected one flat list'),
}


@pytest.mark.parametrize('name', WRONG_FILES)
def test_wrong_files(name, tmp_path):
    write, expected = WRONG_FILES[name]
    write(tmp_path / 'x.zip', json.dumps(good_results()))
    problem, *others = problems_of(tmp_path / 'x.zip')
    assert re.search(expected, problem), problem
    assert all('score is' in other or 'more: score' in other for other in others)  # of NaN and infinity


def test_no_kind_of_problem_shares_its_words_with_another():
    shown = [expected for _, expected in (WRONG_ENTRIES | WRONG_FILES).values()]
    assert len(set(shown)) == len(shown) >= 15


def test_all_kinds_are_listed_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(findings, 'MAX_LINES', 100)
    results = good_results()[:5]  # the changed ones are of image 2
    together = [name for name in WRONG_ENTRIES if name not in OF_THE_WHOLE_FILE]
    for name in together:
        entries = good_results()
        WRONG_ENTRIES[name][0](entries)
        results.append(entries[6])
    write_zip(tmp_path / 'x.zip', json.dumps(results))
    problems = problems_of(tmp_path / 'x.zip')
    assert len(problems) == len(together)
    for index, name in enumerate(together, start=5):
        (problem,) = (line for line in problems if line.startswith(f'entry {index},'))
        assert re.search(WRONG_ENTRIES[name][1].replace('entry 6', f'entry {index}'), problem), problem


def test_a_kind_takes_three_lines(tmp_path):
    results = good_results() * 20
    write_zip(tmp_path / 'x.zip', json.dumps([dict(entry, score=2) for entry in results[:123]] + results[123:]))
    lines = problems_of(tmp_path / 'x.zip')
    assert [line[:7] for line in lines] == ['entry 0', 'entry 1', 'entry 2', '... and']
    assert lines[-1] == '... and 120 more: score out of range'


def test_images_without_a_detection(tmp_path):
    write_submission(tmp_path / 'x.zip', [])
    assert len(problems_of(tmp_path / 'x.zip')) == 2
    assert not problems_of(tmp_path / 'x.zip', allow_empty=True)


def test_repeated_detections_are_noted(tmp_path):
    results = good_results()
    write_submission(tmp_path / 'x.zip', [*results, dict(results[3], score=0.1)])
    report = check_submission(tmp_path / 'x.zip', IMAGES, num_classes=4)
    assert not report.problems
    assert report.warnings == ['entry 10, image 1: same class and mask as entry 3']
    write_submission(tmp_path / 'x.zip', [*results, dict(results[3], category_id=1)])
    assert not check_submission(tmp_path / 'x.zip', IMAGES, num_classes=4).warnings


def test_every_broken_code_is_found(tmp_path):
    results = good_results() * 30
    broken = sorted(random.Random(0).sample(range(len(results)), 40))
    for index in broken:
        code = results[index]['segmentation']
        results[index] = dict(results[index], segmentation=dict(code, counts=code['counts'] + '1'))
    write_zip(tmp_path / 'x.zip', json.dumps(results))
    lines = problems_of(tmp_path / 'x.zip')
    first = [index for index in broken if results[index]['image_id'] == 1][:3]
    assert [line.split(',')[0] for line in lines[:3]] == [f'entry {index}' for index in first]
    assert lines[3:] == ['... and 37 more: broken run-length codes']


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([10**400, '\ud800']),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(['size', 'counts', 'x']), inner),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from(sorted(good_results()[0])), JSON), JSON)
def test_odd_values_are_listed_without_a_crash(tmp_path_factory, changed, entry):
    path = tmp_path_factory.getbasetemp() / 'odd.zip'
    results = good_results()
    results[6] = dict(results[6], **changed)
    write_zip(path, json.dumps(results))
    assert problems_of(path) or 'segmentation' not in changed
    write_zip(path, json.dumps([*good_results(), entry]))
    assert problems_of(path)


def test_damage_anywhere_is_listed_without_a_crash(tmp_path):
    path, rng = tmp_path / 'x.zip', random.Random(0)
    write_submission(path, good_results())
    whole = path.read_bytes()
    for _ in range(300):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        report = check_submission(path, IMAGES, num_classes=4)
        assert report.problems or report.results == good_results()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert problems_of(path)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_boxes_of_masks(seed):
    rng = np.random.default_rng(seed)
    masks = rng.random((6, 9, 7)) < rng.choice([0, 0.02, 0.2, 1.0], (6, 1, 1))
    codes = [encode(mask) for mask in masks]
    expected = np.array([mask_utils.toBbox(code) for code in codes])
    expected[:, 2:] += expected[:, :2]
    np.testing.assert_array_equal(decode_runs(codes).boxes(6, 9), expected)


def test_what_can_match_nothing_is_not_written(tmp_path):
    results = good_results()
    empty = dict(results[0], segmentation=encode(np.zeros((60, 90))))
    flat = dict(results[0], bbox=[3.0, 3.0, 0.0, 4.0])
    assert write_submission(tmp_path / 'x.zip', [empty, *results, flat]) == 2
    assert check_submission(tmp_path / 'x.zip', IMAGES, num_classes=4).results == results


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r'x\.zip: no such file'):
        problems_of(tmp_path / 'x.zip')


def test_image_list(tmp_path):
    path = tmp_path / 'ids.json'
    path.write_text(json.dumps(IMAGES))
    assert read_image_list(path) == IMAGES
    with pytest.raises(UserError, match=r'the course task provides test_image_name_to_ids\.json'):
        read_image_list(tmp_path / 'x.json')
    wrong = {
        'is not valid JSON': '[',
        'not a list of test images': '{}',
        'lists no image': '[]',
        'image entry 0 is 3; .*"file_name"': '[3]',
        'image entry 1 is .*"height"': json.dumps([IMAGES[0], dict(IMAGES[1], height='33')]),
        '2 images have the id 1': json.dumps([IMAGES[0], dict(IMAGES[1], id=1)]),
    }
    for message, text in wrong.items():
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_image_list(path)


@pytest.fixture
def image_folder(tmp_path):
    """Files of the listed images, RGBA in the order RGB, and what they show."""
    shown = [
        np.random.default_rng(image['id']).integers(0, 256, (image['height'], image['width'], 4)) for image in IMAGES
    ]
    for image, rgba in zip(IMAGES, shown, strict=True):
        cv2.imwrite(str(tmp_path / image['file_name']), rgba.astype(np.uint8)[..., [2, 1, 0, 3]])
    return tmp_path, [rgba[..., :3] for rgba in shown]


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_test_set_is_true_rgb(image_folder, order):
    folder, shown = image_folder
    write_test_set(IMAGES, folder, order, ('a', 'b'), folder / 'set')
    content = read_json(folder / 'set/annotations.json')
    assert [(image['id'], image['height'], image['width']) for image in content['images']] == [(1, 60, 90), (2, 33, 86)]
    assert content['categories'] == [dict(id=1, name='a'), dict(id=2, name='b')]
    for image, rgb in zip(content['images'], shown, strict=True):
        written = cv2.imread(str(folder / 'set/images' / image['file_name']))[..., ::-1]
        np.testing.assert_array_equal(written, rgb if order == 'rgb' else rgb[..., ::-1])


def test_files_that_are_not_as_listed(image_folder):
    folder, _ = image_folder
    with pytest.raises(UserError, match=r'b\.tif: 86x33 px \(width x height\), but 86x34 in the list'):
        write_test_set([IMAGES[0], dict(IMAGES[1], height=34)], folder, 'rgb', ('a',), folder / 'set')
    others = [dict(IMAGES[0], id=number, file_name=f'{number}.tif') for number in range(3, 8)]
    with pytest.raises(UserError, match=r'5 of the 7 listed images are missing: 3\.tif, 4\.tif, 5\.tif, \.\.\.'):
        write_test_set([*IMAGES, *others], folder, 'rgb', ('a',), folder / 'none')
    assert not (folder / 'none').exists()


def test_score_with_and_without_the_cap():
    """250 cells of class 1, all found; of class 2 none is found; class 3 has none. A cap of 100 reaches recall 0.4."""
    codes = []
    for index in range(250):
        mask = np.zeros((100, 100), np.uint8)
        row, col = divmod(index, 25)
        mask[4 * row : 4 * row + 3, 4 * col : 4 * col + 3] = 1
        codes.append(encode(mask))
    results = [annotation(1, 0, code, score=1 - index / 1000) for index, code in enumerate(codes)]
    cells = [annotation(1, 0, code) for code in codes] + [annotation(1, 1, codes[0])]
    rows, largest = score_results(results, make_ground_truth((100, 100), cells, num_classes=3))
    assert largest == 250
    capped = 41 / 101  # precision 1 at recalls 0, 0.01, ..., 0.4
    expected = {'class 1': [1, capped, 1, capped], 'class 2': [0] * 4, 'all classes': [0.5, capped / 2] * 2}
    for name, *metrics in rows:
        np.testing.assert_allclose(metrics, expected.get(name, [np.nan] * 4), rtol=0, atol=1e-12)
    assert [row[0] for row in rows] == ['all classes', 'class 1', 'class 2', 'class 3']


def test_score_of_few_and_of_no_detections():
    ground_truth, results = random_results(3, num_cells=20, num_detections=30)
    rows, largest = score_results(results, ground_truth)
    assert largest < 100
    for _, ap50, ap50_capped, mean, mean_capped in rows:
        assert 0 < mean == mean_capped < ap50 == ap50_capped < 1
    reverse, _ = score_results(results, dict(ground_truth, categories=ground_truth['categories'][::-1]))
    assert reverse[1:] == rows[:0:-1]
    rows, largest = score_results([], ground_truth)
    assert largest == 0 and all(row[1:] == [0] * 4 for row in rows)
