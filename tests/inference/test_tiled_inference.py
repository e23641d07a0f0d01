import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from planted import PlantedImage, oracle, plant_cells, planted_ids

from cellseg_mm.inference import predict_tiled
from cellseg_mm.structures import Cells
from cellseg_mm.utils import UserError

# one process a task, forked: importing anew would take longer than all else here
FORK = multiprocessing.get_context('fork')
TILING = dict(tile_size=128, overlap=40, batch_size=3)
TEN_THOUSAND = dict(tile_size=420, overlap=70)  # 49 tiles of the dense image


def predict(image, folder, detector=oracle, **options):
    parts = list(predict_tiled(detector, image, folder, dict(image='planted'), **dict(TILING, **options)))
    return Cells.concatenate(parts) if parts else None


def same_cells(one, other):
    fields = (one.labels, other.labels), (one.scores, other.scores)
    return one.codes() == other.codes() and all(np.array_equal(*pair) for pair in fields)


@pytest.fixture(scope='module')
def image():
    return PlantedImage(plant_cells(size=600, pitch=20, seed=0, large=8, span=(40, 300)))


@pytest.fixture(scope='module')
def dense_image():
    """That of test_merge.py, with 10,000 cells."""
    return PlantedImage(plant_cells(size=2500, pitch=21, seed=0, large=60, span=(50, 600)))


def refuse(images):
    raise AssertionError('the detector was called')


def test_an_image_of_one_tile_is_one_call_of_the_detector_even_if_it_looks_blank(image, tmp_path):
    assert same_cells(predict(image, tmp_path / 'a', tile_size=600), oracle([image.read(0, 0, 600, 600)])[0])
    blank = PlantedImage(np.zeros((50, 60), np.int32))
    with pytest.raises(AssertionError):
        predict(blank, tmp_path / 'b', detector=refuse)


def test_blank_tiles_are_skipped_by_default(tmp_path):
    ids = np.zeros((600, 600), np.int32)
    ids[325:345, 325:345] = 1  # in four tiles
    seen = []

    def count(images):
        seen.extend(images)
        return oracle(images)

    found = predict(PlantedImage(ids), tmp_path / 'a', detector=count)
    assert planted_ids(found, ids).tolist() == [1] and len(seen) == 4
    found = predict(PlantedImage(ids), tmp_path / 'b', detector=count, skip_background=False)
    assert planted_ids(found, ids).tolist() == [1] and len(seen) == 4 + 49


def slowly(images):
    time.sleep(0.05)
    return oracle(images)


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_cells(dense_image, tmp_path):
    expected = predict(dense_image, tmp_path / 'whole', **TEN_THOUSAND)
    assert len(expected) > 10_000
    folder = tmp_path / 'killed'
    process = FORK.Process(target=predict, args=(dense_image, folder, slowly), kwargs=TEN_THOUSAND)
    process.start()
    while len(list(folder.glob('*.npz'))) < 9:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    stored = {path: path.stat().st_mtime_ns for path in folder.glob('*.npz')}
    assert process.exitcode == -signal.SIGKILL and len(stored) < 49
    assert same_cells(predict(dense_image, folder, **TEN_THOUSAND), expected)
    assert all(path.stat().st_mtime_ns == changed for path, changed in stored.items())
    assert len(list(folder.glob('*.npz'))) == 49
    assert sorted(planted_ids(expected, dense_image.ids)) == list(range(1, dense_image.ids.max() + 1))


def predict_as_rank(rank, image, folder):
    torch.distributed.init_process_group('gloo', f'file://{folder}/meeting', rank=rank, world_size=2)

    def detector(images):
        with open(folder / f'rank_{rank}', 'a') as file:
            file.write('x' * len(images))
        return oracle(images)

    found = predict(image, folder / 'work', detector, **TEN_THOUSAND)
    assert (found is None) == (rank == 1)
    if rank == 0:
        # read back from the tiles, all of which are there
        np.savez(folder / 'found.npz', *found.runs, labels=found.labels, scores=found.scores)


def test_two_processes_share_the_tiles_and_give_the_same_cells(dense_image, tmp_path):
    processes = [FORK.Process(target=predict_as_rank, args=(rank, dense_image, tmp_path)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted((tmp_path / f'rank_{rank}').stat().st_size for rank in (0, 1)) == [24, 25]
    expected = predict(dense_image, tmp_path / 'alone', **TEN_THOUSAND)
    found = np.load(tmp_path / 'found.npz')
    assert sorted(planted_ids(expected, dense_image.ids)) == list(range(1, dense_image.ids.max() + 1))
    assert len(expected) > 10_000
    for name, values in zip(('arr_0', 'arr_1', 'arr_2'), expected.runs, strict=True):
        assert np.array_equal(found[name], values)
    assert np.array_equal(found['labels'], expected.labels) and np.array_equal(found['scores'], expected.scores)


def test_tiles_of_something_else_are_refused(image, tmp_path):
    predict(image, tmp_path)
    with pytest.raises(UserError, match=r'another run \(overlap 40, not 42\); name another'):
        predict(image, tmp_path, overlap=42)
    with pytest.raises(UserError, match="image 'planted', not 'other'"):
        predict_tiled(oracle, image, tmp_path, dict(image='other'), **TILING)
    assert predict(image, tmp_path, detector=refuse) is not None


def test_a_broken_tile_is_named(image, tmp_path):
    predict(image, tmp_path)
    path = tmp_path / 'tile_000007.npz'
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r'tile_000007.npz: cannot be read \(.*\); delete it'):
        predict(image, tmp_path)
