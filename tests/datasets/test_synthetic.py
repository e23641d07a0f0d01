import hashlib
import shutil

import cv2
import numpy as np
import pytest
from conftest import read_json
from scipy import ndimage

from cellseg_mm.datasets import make_sample_data
from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.utils import UserError


def digest(folder):
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    content = [(str(path.relative_to(folder)), path.read_bytes()) for path in files]
    return hashlib.sha256(repr(content).encode()).hexdigest()


def test_same_seed_same_files(tmp_path):
    for name, seed in (('a', 5), ('b', 5), ('c', 6)):
        make_sample_data(tmp_path / name, 8, 64, seed)
    assert digest(tmp_path / 'a') == digest(tmp_path / 'b') != digest(tmp_path / 'c')
    make_sample_data(tmp_path / 'c', 8, 64, 5)  # over an older set
    assert digest(tmp_path / 'a') == digest(tmp_path / 'c')


def test_quirks_of_the_real_files(sample):
    shapes, without_cells, missing_classes = [], 0, 0
    for folder in [*(sample / 'train').iterdir(), *(sample / 'test').iterdir()]:
        image = cv2.imread(str(folder / 'image.tif'), cv2.IMREAD_UNCHANGED)
        assert image.dtype == np.uint8 and image.shape[2] == 4 and (image[..., 3] == 255).all()
        shapes.append(image.shape[:2])
        masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob('class*.tif'))]
        assert all(mask.dtype == np.float64 and mask.ndim == 2 and mask.any() for mask in masks)
        ids = [np.unique(mask[mask > 0]) for mask in masks]
        assert np.concatenate([np.zeros(0), *ids]).tolist() == list(range(1, sum(map(len, ids)) + 1))
        without_cells += not masks
        missing_classes += 0 < len(masks) < 4
    assert (33, 86) in shapes
    assert max(max(shape) / min(shape) for shape in shapes) > 4
    assert without_cells >= 1 and missing_classes >= 1


def test_ids_name_the_unlabelled_copies(sample):
    entries = read_json(sample / 'test_image_name_to_ids.json')
    assert [entry['id'] for entry in entries] == list(range(1, len(entries) + 1))
    for entry in entries:
        image = cv2.imread(str(sample / 'test_release' / entry['file_name']), cv2.IMREAD_UNCHANGED)
        assert image.shape[:2] == (entry['height'], entry['width'])
    assert {entry['file_name'][:-4] for entry in entries} == {path.name for path in (sample / 'test').iterdir()}


def test_cells_have_the_sizes_of_real_ones():
    areas = [[], [], [], []]
    for seed in range(6):
        _, instance_map, labels = draw_tissue(np.random.default_rng(seed), 384, 384, 2.0)
        for label, area in zip(labels, np.bincount(instance_map.ravel())[1:], strict=True):
            areas[label].append(np.sqrt(area))
    medians = [np.median(values) for values in areas]
    assert medians == pytest.approx([26.3, 16.6, 23.7, 45.2], rel=0.12)  # the real data's


def test_dense_tissue_touches_and_each_cell_is_one_piece():
    _, instance_map, labels = draw_tissue(np.random.default_rng(0), 256, 256, 4.0)
    touching = ndimage.label(instance_map > 0)[1]
    assert touching < 0.8 * len(labels)
    for number in range(1, len(labels) + 1):
        assert ndimage.label(instance_map == number)[1] == 1


def test_stain_varies_by_image():
    means = np.array([draw_tissue(np.random.default_rng(seed), 96, 96)[0].mean(axis=(0, 1)) for seed in range(8)])
    assert (means.std(axis=0) > 3).all()


def test_no_cells_at_density_zero():
    _, instance_map, labels = draw_tissue(np.random.default_rng(0), 64, 64, 0.0)
    assert not instance_map.any() and not len(labels)


@pytest.mark.parametrize('images, size', [(7, 64), (8, 63)])
def test_too_few_or_too_small(tmp_path, images, size):
    with pytest.raises(UserError, match='at least 8 images of 64 px'):
        make_sample_data(tmp_path, images, size)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'mine.txt').write_text('keep')
    with pytest.raises(UserError, match='choose another folder'):
        make_sample_data(tmp_path, 8, 64)
    assert (tmp_path / 'train' / 'mine.txt').read_text() == 'keep'


def test_the_real_download_is_left_alone(sample, tmp_path):
    """It has all files of a drawn set but the one that says that it was drawn; as a set of an older version."""
    real = tmp_path / 'real'
    shutil.copytree(sample, real, ignore=shutil.ignore_patterns('*.txt'))
    before = digest(real)
    with pytest.raises(UserError, match='choose another folder, or delete this one') as caught:
        make_sample_data(real, 8, 64)
    assert str(real) in str(caught.value) and '\n' not in str(caught.value) and digest(real) == before


def test_a_run_that_was_stopped_can_be_repeated(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr('cellseg_mm.datasets.synthetic.write_sample', stop)
        with pytest.raises(KeyboardInterrupt):
            make_sample_data(tmp_path / 'sample', 8, 64)
    make_sample_data(tmp_path / 'sample', 8, 64)
    assert len(list(tmp_path.glob('sample/t*/*/image.tif'))) == 8
