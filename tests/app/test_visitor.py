"""What a visitor's folder keeps: whole or not at all, read by the converter, and never another visitor's."""

import errno
import json
import os

import numpy as np
import pytest
from conftest import read_json, write_tiny_config

from cellseg_mm.app.visitor import Visitor
from cellseg_mm.datasets import prepare
from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.images import ArraySource, open_image
from cellseg_mm.structures import Cells, encode_instances
from cellseg_mm.teaching.corrections import Corrections
from cellseg_mm.utils import UserError

CLASSES = ('cell', 'other')


def drawn(seed, pixel_size=None, size=96):
    """An image as a source, and its cells, all of the first class."""
    image, id_map, labels = draw_tissue(np.random.default_rng(seed), size, size)
    codes = encode_instances(id_map, len(labels))
    cells = Cells.from_codes(codes, np.zeros(len(labels), np.int64), np.full(len(labels), 0.9), size, size)
    return ArraySource(image, pixel_size), cells


@pytest.fixture
def visitor(tmp_path):
    return Visitor(tmp_path / 'visitors', None, 'unused.pth', None, None)


def correct(visitor, seed, pixel_size=None):
    """Delete the first cell of a drawn image and rename every second one; the key, source and corrections."""
    source, cells = drawn(seed, pixel_size)
    key, before = visitor.begin('my cells', source.read(0, 0, 96, 96), cells, CLASSES)
    after = before.after(kind='delete', cell=0)
    for index in range(1, len(cells), 2):
        after = after.after(kind='name', cell=index, label=1)
    visitor.save(key, source, before, after)
    return key, source, after


def test_corrected_images_keep_their_pixels_and_pixel_size_convert_and_train(visitor, run_here, tmp_path):
    counts = np.zeros(2, np.int64)
    for seed in range(4):
        key, source, corrections = correct(visitor, seed, pixel_size=0.4)
        stored = open_image(visitor.image_file(key))
        assert np.array_equal(stored.read(0, 0, 96, 96), source.read(0, 0, 96, 96))
        assert stored.pixel_size == pytest.approx(0.4, rel=1e-4)
        counts += np.bincount(corrections.state().left().labels, minlength=2)
    prepare(visitor.folder / 'images', tmp_path / 'set', workers=1, val_fraction=0.5)
    statistics = read_json(tmp_path / 'set/statistics.json')
    assert statistics['pixel_size'] == pytest.approx(0.4, rel=1e-4)
    found = [sum(split[name] for split in statistics['instances'].values()) for name in CLASSES]
    assert found == counts.tolist() and min(found) > 0

    config, work_dir = write_tiny_config(tmp_path / 'tiny.py', times=1), tmp_path / 'run'
    options = ('--from-scratch', '--precision', 'fp32', '--work-dir', work_dir)
    status, _, errors = run_here('train', config, *options, '--cfg-options', f'data_root={tmp_path / "set"}')
    assert status in (0, None), errors
    assert list(work_dir.glob('epoch_1.pth'))


def test_an_unknown_pixel_size_stays_unknown_and_one_that_is_given_later_is_kept(visitor):
    key, *_, corrections = correct(visitor, 0)
    assert open_image(visitor.image_file(key)).pixel_size is None
    visitor.save(key, drawn(0, pixel_size=0.5)[0], corrections, corrections)
    assert open_image(visitor.image_file(key)).pixel_size == pytest.approx(0.5, rel=1e-4)


def test_a_change_in_another_tab_is_not_overwritten(visitor):
    key, source, here = correct(visitor, 0)
    there = here.after(kind='name', cell=1, label=0)
    visitor.save(key, source, here, there)
    with pytest.raises(UserError, match='in another tab'):
        visitor.save(key, source, here, here.after(kind='delete', cell=2))
    assert visitor.corrections(key).steps == there.steps


def test_a_full_disk_loses_nothing(visitor, monkeypatch):
    key, source, before = correct(visitor, 0)
    files = {path: path.read_bytes() for path in visitor.folder.rglob('*') if path.is_file()}

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full)
        with pytest.raises(OSError, match='No space left'):
            visitor.save(key, source, before, before.after(kind='delete', cell=2))
    assert visitor.corrections(key).steps == before.steps
    assert files.keys() == {path for path in visitor.folder.rglob('*') if path.is_file()}
    again = before.after(kind='delete', cell=2)
    visitor.save(key, source, before, again)
    assert visitor.corrections(key).steps == again.steps


def damaged(content):
    """Ways in which the file of the steps can be wrong, by name."""
    return {
        'cut off': content[:-9],
        'of another form': '[1, 2]',
        'a code': content.replace('"codes": [\n    "', '"codes": [\n    "~~'),
        'a cell that is not there': content.replace('"cell": 0', '"cell": 999'),
        'a class that is not there': content.replace('"label": 1', '"label": 7'),
        'an unknown step': content.replace('"delete"', '"explode"'),
    }


def test_damaged_steps_are_named_and_the_other_images_stay(visitor):
    key, source, _ = correct(visitor, 0)
    other, *_ = correct(visitor, 1)
    path = visitor.folder / f'steps/{key}.json'
    whole = path.read_text('utf-8')
    for content in damaged(whole).values():
        assert content != whole
        path.write_text(content, 'utf-8')
        with pytest.raises(UserError, match=rf'{key}\.json: .*move it away'):
            visitor.begin('my cells', source.read(0, 0, 96, 96), drawn(0)[1], CLASSES)
        with pytest.raises(UserError, match=rf'{key}\.json: '):
            visitor.teach(with_others=True)
    assert visitor.corrections(other).steps and set(visitor.keys()) == {key, other}


def test_corrections_of_an_image_of_another_size_are_named(visitor):
    key, source, _ = correct(visitor, 0)
    path = visitor.folder / f'steps/{key}.json'
    path.write_text(json.dumps(Corrections(drawn(0, size=64)[1], CLASSES).to_dict()), 'utf-8')
    with pytest.raises(UserError, match='of another size'):
        visitor.begin('my cells', source.read(0, 0, 96, 96), drawn(0)[1], CLASSES)


def test_a_missing_image_is_named(visitor):
    key, *_ = correct(visitor, 0)
    visitor.image_file(key).unlink()
    with pytest.raises(UserError, match=rf'{key}\.tif: No such file'):
        open_image(visitor.image_file(key))
    with pytest.raises(UserError, match='not one of your'):
        visitor.image_file('../other')


def test_names_that_are_not_a_visitors_open_no_folder(tmp_path):
    (tmp_path / 'photos/steps').mkdir(parents=True)
    (tmp_path / 'photos/steps/a.json').write_text('{}')
    for name in ('photos', '../photos', '', None, 'A' * 32, 'a' * 31):
        visitor = Visitor(tmp_path, name, 'unused.pth', None, None)
        assert visitor.name != name and visitor.keys() == []
    same = Visitor(tmp_path, visitor.name, 'unused.pth', None, None)
    assert same.name == visitor.name and not same.folder.exists()


def test_a_file_in_place_of_the_folder_gives_an_error_that_names_it(visitor, tmp_path):
    visitor.folder.parent.mkdir()
    visitor.folder.write_text('no folder')
    source, cells = drawn(0)
    key, before = visitor.begin('a', source.read(0, 0, 96, 96), cells, CLASSES)
    with pytest.raises(OSError, match=visitor.name):
        visitor.save(key, source, before, before.after(kind='delete', cell=0))


def test_a_taught_model_is_loaded_again_when_it_changes(tmp_path):
    loaded = []

    def load(path):
        loaded.append(path)
        if path.read_bytes() == b'torn':
            raise UserError(f'{path}: not a whole checkpoint')
        return path.read_bytes()

    visitor = Visitor(tmp_path, None, 'unused.pth', 'base', load)
    assert visitor.detector == 'base'
    visitor.folder.mkdir()
    for content in (b'first', b'second'):
        visitor.taught.write_bytes(content)
        os.utime(visitor.taught, ns=(0, len(loaded) + 1))
        assert visitor.detector == visitor.detector == content
    assert len(loaded) == 2
    visitor.taught.write_bytes(b'torn')
    with pytest.raises(UserError, match='not a whole checkpoint; teach again'):
        _ = visitor.detector
