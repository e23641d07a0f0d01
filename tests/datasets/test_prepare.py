import contextlib
import functools
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import tifffile
from conftest import ROOT, read_json, write_class_folder
from processes import context, start_script
from pycocotools import mask as mask_utils

from cellseg_mm.datasets import prepare
from cellseg_mm.datasets.formats.task import TaskSample
from cellseg_mm.datasets.prepare import common_pixel_size
from cellseg_mm.datasets.source_state import stale_source
from cellseg_mm.structures import read_layers
from cellseg_mm.utils import UserError, claimed

SPLITS = ('train', 'val', 'test')


def he_image(rng, cells):
    """A small true-RGB image: nuclei blue, ground pink."""
    image = np.where(cells[..., None], [90, 60, 150], [225, 150, 190]) + rng.integers(-9, 10, (*cells.shape, 3))
    return image.astype(np.uint8)


def make_source(root, num_images=6, swap=False, alpha=False, **kwargs):
    rng = np.random.default_rng(0)
    for index in range(num_images):
        mask = np.zeros((40, 50))
        mask[5:15, 5:15], mask[20:30, 30:45] = 1, 2
        image = he_image(rng, mask > 0)
        image = image[..., ::-1] if swap else image
        if alpha:
            image = np.dstack([image, np.full(mask.shape, 255, np.uint8)])
        write_class_folder(
            root / 'train' / f'image_{index}', image, class1=mask * (mask == 1), class3=mask * (mask == 2)
        )
    return root


@pytest.fixture
def source(tmp_path):
    return make_source(tmp_path / 'source')


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_every_cell_arrives_whole(sample, prepared):
    """Independent route: pycocotools decodes what tifffile reads from the source."""
    found = 0
    for split in SPLITS:
        content = read_json(prepared / 'annotations' / f'{split}.json')
        for image in content['images']:
            stem = image['file_name'][:-4]
            folder = sample / ('test' if split == 'test' else 'train') / stem
            entries = [entry for entry in content['annotations'] if entry['image_id'] == image['id']]
            layers = read_layers(prepared / 'instances' / image['instance_map'])
            expected = {}
            for path in sorted(folder.glob('class*.tif')):
                mask = tifffile.imread(path)
                for number in np.unique(mask[mask > 0]):
                    expected[len(expected) + 1] = (int(path.stem[5:]), mask == number)
            assert [entry['instance_id'] for entry in entries] == list(expected)
            for entry in entries:
                category, mask = expected[entry['instance_id']]
                rows, cols = np.nonzero(mask)
                assert entry['category_id'] == category
                assert np.array_equal(mask_utils.decode(entry['segmentation']).astype(bool), mask)
                assert np.array_equal((layers == entry['instance_id']).any(axis=0), mask)
                assert entry['area'] == mask.sum()
                assert entry['bbox'] == [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]
            found += len(entries)
    source_ids = [np.unique(tifffile.imread(path)).size - 1 for path in sample.glob('t*/*/class*.tif')]
    assert found == sum(source_ids) > 50


def test_annotation_ids_are_unique_and_statistics_count_them(prepared):
    statistics = read_json(prepared / 'statistics.json')
    image_ids = []
    for split in SPLITS:
        content = read_json(prepared / 'annotations' / f'{split}.json')
        ids = [entry['id'] for entry in content['annotations']]
        assert len(ids) == len(set(ids))
        image_ids += [image['id'] for image in content['images']]
        assert statistics['images'][split] == len(content['images'])
        for category in content['categories']:
            count = sum(entry['category_id'] == category['id'] for entry in content['annotations'])
            assert statistics['instances'][split][category['name']] == count
    assert len(image_ids) == len(set(image_ids))


def test_test_images_keep_the_ids_of_the_submission(sample, prepared):
    given = {entry['file_name'][:-4]: entry['id'] for entry in read_json(sample / 'test_image_name_to_ids.json')}
    content = read_json(prepared / 'annotations' / 'test.json')
    assert {image['file_name'][:-4]: image['id'] for image in content['images']} == given


def test_mean_and_std_are_those_of_the_training_pixels(prepared):
    statistics = read_json(prepared / 'statistics.json')
    images = read_json(prepared / 'annotations' / 'train.json')['images']
    pixels = np.concatenate(
        [cv2.imread(str(prepared / 'images' / image['file_name']))[..., ::-1].reshape(-1, 3) for image in images]
    )
    assert statistics['mean'] == pytest.approx(pixels.mean(axis=0), abs=1e-3)
    assert statistics['std'] == pytest.approx(pixels.std(axis=0), abs=1e-3)


@pytest.mark.parametrize('alpha', [False, True])
@pytest.mark.parametrize('swap', [False, True])
def test_channel_order_is_found(tmp_path, swap, alpha):
    source = make_source(tmp_path / 'source', swap=swap, alpha=alpha)
    statistics = prepare(source, tmp_path / 'out', workers=1)
    assert statistics['channel_order'] == ('bgr' if swap else 'rgb')
    straight = make_source(tmp_path / 'straight')
    prepare(straight, tmp_path / 'expected', order='rgb', workers=1)
    for path in (tmp_path / 'expected' / 'images').iterdir():
        assert np.array_equal(cv2.imread(str(path)), cv2.imread(str(tmp_path / 'out' / 'images' / path.name)))


def test_channel_order_can_be_given(source, tmp_path):
    assert prepare(source, tmp_path / 'out', order='bgr', workers=1)['channel_order_reason'] == 'as given'
    red_blue = cv2.imread(str(tmp_path / 'out' / 'images' / 'image_0.png'))
    assert red_blue[0, 0, 0] > red_blue[0, 0, 2]  # pink ground: red above blue, now exchanged


def test_overlapping_class_files_lose_nothing(source, tmp_path):
    mask = np.zeros((40, 50))
    mask[8:20, 8:20] = 7
    cv2.imwrite(str(source / 'train' / 'image_0' / 'class2.tif'), mask)
    prepare(source, tmp_path / 'out', workers=1)
    layers = read_layers(tmp_path / 'out' / 'instances' / 'image_0.tif')
    assert layers.shape == (2, 40, 50)
    assert [(layers == number).sum() for number in (1, 2, 3)] == [100, 144, 150]


@pytest.mark.parametrize('dtype, first', [(np.uint8, 180), (np.uint8, 255), (np.uint16, 65_500), (np.float64, 180)])
def test_class_files_of_few_bits_lose_nothing(source, tmp_path, dtype, first):
    """Each has ids from 1; together they pass what their bits can number."""
    column = np.arange(50)
    number = np.where((column % 6 < 4) & (column < 48), column // 6, -1)  # eight cells of 4 px, or none
    for folder in (source / 'train').iterdir():
        (folder / 'class3.tif').unlink()
        for name, largest, step, y in (('class1', first, 1, 4), ('class2', 80, 7, 20)):
            mask = np.zeros((40, 50), dtype)
            mask[y : y + 6] = np.where(number < 0, 0, largest - step * number)
            (folder / f'{name}.tif').unlink(missing_ok=True)
            cv2.imwrite(str(folder / f'{name}{".tif" if dtype == np.float64 else ".png"}'), mask)
    prepare(source, tmp_path / 'out', workers=1)
    layers = read_layers(tmp_path / 'out/instances/image_0.tif')
    assert layers.shape == (1, 40, 50)
    # the ids of a map fall from left to right
    assert layers[0, 5, :48:6].tolist() == [*range(8, 0, -1)] and layers[0, 21, :48:6].tolist() == [*range(16, 8, -1)]
    entries = read_json(tmp_path / 'out/annotations/val.json')['annotations']
    assert [entry['category_id'] for entry in entries] == [1] * 8 + [2] * 8


def test_classes_of_ones_own(source, tmp_path):
    statistics = prepare(source, tmp_path / 'out', classes=('a', 'b', 'c'), workers=1)
    assert statistics['classes'] == ['a', 'b', 'c']
    assert [
        category['name'] for category in read_json(tmp_path / 'out' / 'annotations' / 'val.json')['categories']
    ] == [
        'a',
        'b',
        'c',
    ]


def test_a_name_given_to_several_classes_makes_them_one(source, tmp_path):
    apart = prepare(source, tmp_path / 'apart', classes=('a', 'b', 'c'), workers=1)['instances']
    merged = prepare(source, tmp_path / 'merged', classes=('x', 'y', 'x'), workers=1)
    assert merged['classes'] == ['x', 'y']
    for split, counts in merged['instances'].items():
        assert counts == dict(x=apart[split]['a'] + apart[split]['c'], y=apart[split]['b'])
    assert apart['train']['a'] and apart['train']['c']


def test_unlabelled_test_images(source, tmp_path):
    (source / 'test_release').mkdir()
    shutil.copy(source / 'train' / 'image_0' / 'image.tif', source / 'test_release' / 'x.tif')
    statistics = prepare(source, tmp_path / 'out', workers=1)
    assert statistics['images']['test'] == 1 and statistics['labelled_images']['test'] == 0
    content = read_json(tmp_path / 'out' / 'annotations' / 'test.json')
    assert [image['file_name'] for image in content['images']] == ['x.png'] and not content['annotations']


def test_equal_names_of_splits_get_the_split_before_them(source, tmp_path):
    shutil.copytree(source / 'train' / 'image_0', source / 'test' / 'IMAGE_0')
    prepare(source, tmp_path / 'out', workers=1)
    names = {path.stem for path in (tmp_path / 'out/images').iterdir()}
    assert names == {'train_image_0', 'test_IMAGE_0', *(f'image_{index}' for index in range(1, 6))}
    shutil.copytree(source / 'train' / 'image_1', source / 'train' / 'train_image_0')
    with pytest.raises(UserError, match='the name train_image_0 is in train/ too'):
        prepare(source, tmp_path / 'out', workers=1)


def test_running_twice_gives_the_same_files(source, tmp_path):
    prepare(source, tmp_path / 'out', workers=2)
    first = contents(tmp_path / 'out')
    prepare(source, tmp_path / 'out', workers=1)
    assert contents(tmp_path / 'out') == first
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith('.')] == []


def truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def foreign_truncated(path):
    """A file whose directory comes first, so that only the pixels are cut."""
    tifffile.imwrite(path, np.ones((40, 50)))
    truncated(path)


BROKEN = {
    'truncated mask': ('class1.tif', truncated, 'not readable as a mask'),
    'truncated mask of another writer': ('class1.tif', foreign_truncated, 'not readable as a mask'),
    'empty mask file': ('class1.tif', lambda path: path.write_bytes(b''), 'not readable as a mask'),
    'mask of another size': ('class1.tif', lambda path: cv2.imwrite(str(path), np.ones((40, 49))), '49x40 px'),
    'fractional ids': ('class1.tif', lambda path: cv2.imwrite(str(path), np.full((40, 50), 1.5)), 'found 1.5 at row 0'),
    'nan ids': ('class1.tif', lambda path: cv2.imwrite(str(path), np.full((40, 50), np.nan)), 'found nan'),
    'negative ids': ('class1.tif', lambda path: cv2.imwrite(str(path), np.full((40, 50), -1.0)), 'not be negative'),
    'colour mask': ('class1.tif', lambda path: cv2.imwrite(str(path), np.ones((40, 50, 3), np.uint8)), 'one channel'),
    'no image': ('image.tif', lambda path: path.unlink(), 'no image.tif'),
    'truncated image': ('image.tif', truncated, 'not readable as an image'),
    'text as image': ('image.tif', lambda path: path.write_text('hello'), 'not readable as an image'),
    'grey image': ('image.tif', lambda path: cv2.imwrite(str(path), np.ones((40, 50), np.uint8)), '1 channels'),
    '16-bit image': ('image.tif', lambda path: cv2.imwrite(str(path), np.ones((40, 50, 3), np.uint16)), 'uint16'),
}


@pytest.mark.parametrize('kind', BROKEN)
def test_broken_files_are_named(source, tmp_path, kind):
    name, damage, reason = BROKEN[kind]
    folder = source / 'train' / 'image_3'
    damage(folder / name)
    with pytest.raises(UserError, match=reason) as caught:
        prepare(source, tmp_path / 'out', workers=1)
    assert str(folder) in str(caught.value) and '\n' not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['source']


def die(*_):
    os._exit(139)


def test_a_process_that_dies_gives_one_line(source, tmp_path, monkeypatch):
    """As readers in C do on some damaged files."""
    monkeypatch.setattr(TaskSample, 'read_instances', die)
    # forked, so that the processes have the deadly method; Python 3.14 starts them anew
    forked = functools.partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context('fork'))
    monkeypatch.setattr(sys.modules[prepare.__module__], 'ProcessPoolExecutor', forked)
    with pytest.raises(UserError, match=r'image_\d.image.tif: a process died') as caught:
        prepare(source, tmp_path / 'out', workers=2)
    assert '\n' not in str(caught.value) and sorted(path.name for path in tmp_path.iterdir()) == ['source']


def test_nothing_but_a_prepared_set_is_replaced(source, tmp_path):
    out, mine = tmp_path / 'out', tmp_path / 'mine'
    mine.mkdir()
    (mine / '.DS_Store').touch()  # a folder that somebody looked at is as empty as before
    prepare(source, mine, workers=1)
    shutil.copytree(mine, out)
    (out / 'Thumbs.db').touch()
    prepare(source, out, workers=1)
    assert contents(out).keys() == contents(mine).keys() - {'.DS_Store'}

    (out / 'best.pth').write_text('x')
    before = contents(out)
    with pytest.raises(UserError, match=r'out.best\.pth: is not part of a prepared data set'):
        prepare(source, out, workers=1)
    assert contents(out) == before

    shutil.rmtree(mine)
    mine.mkdir()
    (mine / 'statistics.json').write_text('{}')
    (mine / 'thesis.txt').write_text('x')
    with pytest.raises(UserError, match=r'not a prepared data set, thesis\.txt is in it'):
        prepare(source, mine, workers=1)
    assert contents(mine).keys() == {'statistics.json', 'thesis.txt'}


def test_a_source_is_not_replaced_by_what_is_made_of_it(source, tmp_path):
    prepare(source, tmp_path / 'out', workers=1)
    before = contents(tmp_path / 'out')
    for part in ('.', 'annotations/train.json'):
        with pytest.raises(UserError, match='would be replaced'):
            prepare(tmp_path / 'out' / part, tmp_path / 'out', workers=1)
    assert contents(tmp_path / 'out') == before


def test_a_link_leads_to_the_set(source, tmp_path):
    link, disk = tmp_path / 'data', tmp_path / 'disk' / 'cells'  # which is not there yet
    link.symlink_to(disk)
    for _ in range(3):
        prepare(source, link, workers=1)
        assert link.is_symlink() and (disk / 'statistics.json').is_file()
        assert [path.name for path in disk.parent.iterdir()] == ['cells']
        assert sorted(path.name for path in tmp_path.iterdir()) == ['data', 'disk', 'source']
        (disk.parent / '.cells.old').symlink_to(
            source
        )  # as older versions left it; the next run removes the link alone


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
def test_a_failed_swap_puts_the_older_set_back(source, tmp_path, monkeypatch, error):
    prepare(source, tmp_path / 'out', workers=1)
    first, rename = contents(tmp_path / 'out'), Path.rename

    def fail(path, target):
        if path.name == '.out.partial':
            raise error
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'rename', fail)
        with pytest.raises(type(error)):
            prepare(source, tmp_path / 'out', workers=1)
    assert contents(tmp_path / 'out') == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'source']


@pytest.mark.parametrize('is_whole', [True, False])
def test_a_set_that_a_killed_swap_left_is_not_lost(source, tmp_path, is_whole):
    """Killed between the two renames. The next run replaces the older set, or puts it back if it fails."""
    prepare(source, tmp_path / 'out', workers=1)
    first = contents(tmp_path / 'out')
    (tmp_path / 'out').rename(tmp_path / '.out.old')
    if not is_whole:
        truncated(source / 'train' / 'image_3' / 'class1.tif')
    with contextlib.nullcontext() if is_whole else pytest.raises(UserError):
        prepare(source, tmp_path / 'out', workers=1)
    assert contents(tmp_path / 'out') == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'source']


def test_a_set_within_its_source_does_not_change_it(source):
    for name in ('cells', 'cells', 'cells2'):
        prepare(source, source / name, workers=1)
    (source / 'train' / '.DS_Store').touch()
    assert stale_source(source / 'cells') is None and stale_source(source / 'cells2') is None
    shutil.copytree(source / 'train' / 'image_0', source / 'train' / 'image_9')
    assert '(18 files then, 21 now)' in stale_source(source / 'cells')


def test_a_source_whose_files_were_replaced_has_changed(source, tmp_path):
    prepare(source, tmp_path / 'cells', workers=1)
    next(path for path in source.rglob('*') if path.is_file()).touch()
    assert 'has changed since it was prepared (18 files, some of another size or date)' in stale_source(
        tmp_path / 'cells'
    )


def test_a_json_source_changes_with_its_images_alone(source, tmp_path):
    folder = tmp_path / 'coco'
    prepare(source, folder, workers=1)  # is a COCO source itself
    prepare(folder / 'annotations' / 'train.json', tmp_path / 'cells', workers=1)
    (folder / 'annotations' / 'notes.txt').write_text('mine')
    (folder / 'annotations' / 'test.json').touch()
    assert stale_source(tmp_path / 'cells') is None
    image = read_json(folder / 'annotations' / 'train.json')['images'][0]['file_name']
    (folder / 'images' / image).unlink()
    assert '6 files then, 5 now' in stale_source(tmp_path / 'cells')


def test_notes_on_images_are_printed_once(tmp_path, run_here):
    source = tmp_path / 'source'
    source.mkdir()
    cells = np.zeros((40, 50), np.uint8)
    cells[5:15, 5:15] = 1
    image = he_image(np.random.default_rng(0), cells > 0)
    for index, factor in enumerate((1, 4, 4, 16)):
        tifffile.imwrite(source / f'deep_{index}.tif', image.astype(np.uint16) * factor, photometric='rgb')
    tifffile.imwrite(source / 'plain.tif', image, photometric='rgb')
    for name in ('stack_0', 'stack_1'):
        tifffile.imwrite(source / f'{name}.tif', np.stack([image] * 3), photometric='rgb')
    for path in list(source.iterdir()):
        tifffile.imwrite(source / f'{path.stem}_masks.tif', cells)
    status, printed, _ = run_here('prepare_data', source, '--out', tmp_path / 'out', '--workers', 1)
    assert status == 0
    assert [line for line in printed.splitlines() if 'note on' in line] == [
        'note on 1 of the images, deep_0.tif first: 16 bit, 255 becomes 255',
        'note on 2 of the images, deep_1.tif first: 16 bit, 1023 becomes 255',
        'note on 1 of the images, deep_3.tif first: 16 bit, 4095 becomes 255',
        'note on 2 of the images, stack_0.tif first: page 1 of 3',
    ]
    assert printed.count('equal brightness became unequal here') == 1


def hold(path, ends):
    with claimed(path, 'taken'):
        ends.send(True)
        ends.recv()


def test_a_second_process_leaves_the_set_of_the_first_alone(source, tmp_path):
    prepare(source, tmp_path / 'out', workers=1)
    first = contents(tmp_path / 'out')
    (tmp_path / '.out.partial').mkdir()  # it works there
    ours, theirs = context.Pipe()
    other = context.Process(target=hold, args=(tmp_path / '.out.lock', theirs))
    other.start()
    assert ours.recv()
    with pytest.raises(UserError, match=r'out: another process prepares this data set; wait for it, or choose'):
        prepare(source, tmp_path / 'out', workers=1)
    assert contents(tmp_path / 'out') == first and (tmp_path / '.out.partial').is_dir()
    ours.send('done')
    other.join()
    prepare(source, tmp_path / 'out', workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'source']


@pytest.mark.parametrize('of_source', [False, True])
def test_what_may_not_be_read_or_written_is_told_apart(source, tmp_path, monkeypatch, of_source):
    place = source / 'train/image_0/image.tif' if of_source else tmp_path / '.out.partial/images/image_0.png'

    def refuse(*_):
        raise PermissionError(13, 'Permission denied', str(place))

    monkeypatch.setattr(sys.modules[prepare.__module__], '_convert', refuse)
    advice = 'make it readable' if of_source else 'choose another --out'
    with pytest.raises(UserError, match=rf'{place.name}: Permission denied; {advice}'):
        prepare(source, tmp_path / 'out', workers=1)


def test_ids_of_test_images_differ(source, tmp_path):
    for name in 'ab':
        shutil.copytree(source / 'train/image_0', source / 'test' / name)
    ids = [dict(file_name='a.tif', id=7), dict(file_name='b.tif', id=7)]
    (source / 'test_image_name_to_ids.json').write_text(json.dumps(ids))
    with pytest.raises(UserError, match='the images a, b have the same id 7'):
        prepare(source, tmp_path / 'out', workers=1)


def test_a_failed_run_keeps_the_older_set(source, tmp_path):
    prepare(source, tmp_path / 'out', workers=1)
    first = contents(tmp_path / 'out')
    truncated(source / 'train' / 'image_3' / 'class1.tif')
    with pytest.raises(UserError):
        prepare(source, tmp_path / 'out', workers=1)
    assert contents(tmp_path / 'out') == first


def test_refusals(source, tmp_path):
    empty = tmp_path / 'empty'
    empty.mkdir()
    with pytest.raises(UserError, match='unknown format'):
        prepare(empty, tmp_path / 'out')
    with pytest.raises(UserError, match='no folder train/'):
        prepare(empty, tmp_path / 'out', source_format='task')
    (empty / 'train').mkdir()
    with pytest.raises(UserError, match='0 labelled training images found, at least 2'):
        prepare(empty, tmp_path / 'out', source_format='task')
    with pytest.raises(UserError, match='class 3, but 2 class names'):
        prepare(source, tmp_path / 'out', classes=('a', 'b'))
    with pytest.raises(UserError, match="classes 'a', 'A ': each needs its own name"):
        prepare(source, tmp_path / 'out', classes=('a', 'A ', 'b'))
    with pytest.raises(UserError, match='a class without a name'):
        prepare(source, tmp_path / 'out', classes=('a', ' ', 'b'))
    with pytest.raises(UserError, match='above 0 and below 1'):
        prepare(source, tmp_path / 'out', val_fraction=0)
    with pytest.raises(UserError, match='not a prepared data set, train is in it'):
        prepare(source, source)
    (source / 'test_image_name_to_ids.json').write_text('{"a": 1}')
    with pytest.raises(UserError, match=r'test_image_name_to_ids\.json'):
        prepare(source, tmp_path / 'out')


@pytest.mark.parametrize('kind', [signal.SIGINT, signal.SIGKILL])
def test_interruption_leaves_nothing_that_trains(source, tmp_path, kind):
    """Stopped in the middle (a worker that sleeps stands for slow disks); the next run is not in the way of it."""
    script, printed = tmp_path / 'slow.py', tmp_path / 'printed'
    script.write_text(
        'import sys, time; from pathlib import Path; import cellseg_mm\n'
        'module = sys.modules["cellseg_mm.datasets.prepare"]; write = module._write_json\n'
        'module._write_json = lambda *a: (write(*a), print("writing", flush=True), time.sleep(30))\n'
        'if __name__ == "__main__": module.prepare(Path(sys.argv[1]), Path(sys.argv[2]), workers=1)\n'
    )
    printed.touch()
    process = start_script(script, source, tmp_path / 'out', folder=tmp_path, stdout=printed)
    while not printed.read_text().endswith('writing\n'):
        assert process.is_alive(), 'it ended before it was stopped'
        time.sleep(0.02)
    os.kill(process.pid, kind)
    process.join(timeout=20)
    assert process.exitcode  # neither None, it runs, nor 0
    assert not (tmp_path / 'out').exists()
    prepare(source, tmp_path / 'out', workers=1)
    assert (tmp_path / 'out' / 'statistics.json').exists()
    assert [path for path in tmp_path.iterdir() if path.name.startswith('.')] == []


@pytest.mark.parametrize('kind', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(source, tmp_path, kind):
    """Ctrl-C in a terminal reaches them too, of which most wait for an image while one reads."""
    script, printed = tmp_path / 'slow.py', tmp_path / 'printed'
    script.write_text(
        'import os, runpy, sys, time\nfrom cellseg_mm.datasets.formats.task import TaskSample\n'
        'def slow(self, read=TaskSample.read_image):\n'
        '    print(os.getpid(), flush=True)\n'
        '    time.sleep(4 * (self.name == "image_0"))\n'
        '    return read(self)\n'
        'TaskSample.read_image = slow\n'
        f'if __name__ == "__main__": runpy.run_path({str(ROOT / "tools/prepare_data.py")!r}, run_name="__main__")\n'
    )
    printed.touch()
    words = [source, '--out', tmp_path / 'out', '--workers', 6]
    process = start_script(script, *words, folder=tmp_path, stdout=printed)
    while len(printed.read_text().split()) < 6:
        assert process.is_alive(), 'it ended before it was stopped'
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children()
    if kind == signal.SIGINT:
        os.killpg(process.pid, kind)
    else:
        os.kill(process.pid, kind)
    process.join(timeout=40)
    assert process.exitcode == (-kind if kind == signal.SIGKILL else 130)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert workers and not alive
    left = {path.name for path in tmp_path.iterdir()} - {'source', script.name, printed.name}
    assert kind == signal.SIGKILL or not left


def test_a_table_takes_the_place_of_the_folders(source, tmp_path):
    names = sorted(path.name for path in (source / 'train').iterdir())
    wanted = dict(zip(names, ['test', 'train', 'val', *['train'] * len(names)], strict=False))
    table = tmp_path / 'splits.csv'
    table.write_text('name,split\n' + ''.join(f'{name},{split}\n' for name, split in wanted.items()))
    prepare(source, tmp_path / 'out', workers=1, splits=table)
    for split in SPLITS:
        images = read_json(tmp_path / f'out/annotations/{split}.json')['images']
        assert [image['file_name'] for image in images] == [f'{name}.png' for name in names if wanted[name] == split]

    for rows, message in (
        (names[1:], rf'the image {names[0]} is in .*, but has no row'),
        ([*names, 'other'], r'the image other has a row, but is not in'),
    ):
        table.write_text('name,split\n' + ''.join(f'{name},train\n' for name in rows))
        with pytest.raises(UserError, match=message):
            prepare(source, tmp_path / 'out', workers=1, splits=table)


def test_an_image_without_labels_is_for_testing_alone(source, tmp_path):
    (source / 'test_release').mkdir()
    shutil.copy(next(source.glob('train/*/image.tif')), source / 'test_release/bare.tif')
    table = tmp_path / 'splits.csv'
    names = [path.name for path in (source / 'train').iterdir()]
    for split in ('train', 'val'):
        table.write_text('name,split\n' + ''.join(f'{name},train\n' for name in names) + f'bare,{split}\n')
        with pytest.raises(UserError, match=rf'bare\.tif: no labels, so it cannot be in {split}'):
            prepare(source, tmp_path / 'out', workers=1, splits=table)


def test_a_data_set_has_the_pixel_size_that_all_its_files_say():
    def of(*sizes, **options):
        return common_pixel_size([(f'{index}.tif', size) for index, size in enumerate(sizes)], **options)

    assert of(0.25, 0.2525, 0.251) == (0.251, 'as all files say')
    size, reason = of(0.25, None, None)
    assert size is None and reason == '2 of 3 files do not say it; --pixel-size UM does'
    size, reason = of(0.25, 0.5, None, 0.5)
    assert size is None and reason.startswith('2 of 4 images differ: 0.tif has 0.25 um a px, 3.tif 0.5; cells of')
    assert of(None, None, given=0.5) == (0.5, 'as given')
    assert of(0.25, 0.51, 0.5, given=0.5) == (0.5, 'as given, but 1 of 3 files say otherwise, 0.tif 0.25 um')


def make_tiffs(root, sizes):
    """Images of these micrometres a px with id maps beside them."""
    rng = np.random.default_rng(0)
    root.mkdir()
    for index, size in enumerate(sizes):
        mask = np.zeros((40, 50), np.uint16)
        mask[5:15, 5:15] = 1
        resolution = dict(resolution=(1e4 / size,) * 2, resolutionunit='CENTIMETER') if size else {}
        tifffile.imwrite(root / f'{index}.tif', he_image(rng, mask > 0), photometric='rgb', **resolution)
        tifffile.imwrite(root / f'{index}_masks.tif', mask)
    return root


def test_the_pixel_size_is_kept_with_the_set(tmp_path, run_here):
    root, out = make_tiffs(tmp_path / 'source', [0.5, 0.5, 0.5]), tmp_path / 'out'
    assert prepare(root, out, workers=1)['pixel_size'] == pytest.approx(0.5)
    assert read_json(out / 'statistics.json')['pixel_size_reason'] == 'as all files say'
    status, printed, _ = run_here('prepare_data', root, '--out', out, '--workers', 1, '--pixel-size', 0.25)
    assert status == 0 and read_json(out / 'statistics.json')['pixel_size'] == 0.25
    assert 'pixel size: 0.25 um a px (as given, but 3 of 3 files say otherwise, 0.tif 0.5 um)' in printed
    root = make_tiffs(tmp_path / 'mixed', [0.5, None, None])
    _, printed, _ = run_here('prepare_data', root, '--out', out, '--workers', 1)
    assert 'pixel size: unknown (2 of 3 files do not say it; --pixel-size UM does)' in printed
    assert read_json(out / 'statistics.json')['pixel_size'] is None
    with pytest.raises(UserError, match=r'invalid pixel size 72: it must be from 0\.02 to 20 um'):
        prepare(root, out, pixel_size=72)
