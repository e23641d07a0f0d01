import copy
import dataclasses
import fcntl
import json
import re
import shutil

import pytest
import torch
from conftest import ROOT, read_json

from cellseg_mm.engine import ablation, run_config
from cellseg_mm.utils import UserError, write_json

ROWS = ['maskrcnn_r50', 'maskrcnn_r50_fpn', 'maskrcnn_r50_fpn_cbam']


def make_row(name, data_root, **options):
    config = str(ROOT / 'configs' / f'{name}.py')
    cfg = run_config.training_config(config, dict(data_root=str(data_root), **options), from_scratch=True)
    return ablation.Row.of(config, cfg)


DEMO_ROWS = [f'demo/{name.replace("50", "18")}' for name in ROWS]
CONSEP_ROWS = [f'consep/{name}' for name in (*ROWS, f'{ROWS[2]}_identity', f'{ROWS[2]}_block')]


@pytest.mark.parametrize('rows', [ROWS, DEMO_ROWS, CONSEP_ROWS], ids=['full', 'demo', 'consep'])
def test_the_ablations_rows_are_comparable(rows, prepared):
    ablation.check_comparable([make_row(name, prepared) for name in rows])


@pytest.mark.parametrize(
    'key, value',
    [
        ('optim_wrapper.optimizer.lr', 1.0),
        ('train_cfg.max_epochs', 3),
        ('model.neck.num_outs', 4),
        ('train_dataloader.dataset.pipeline.2.prob', 0.1),
    ],
)
def test_rows_that_differ_in_more_are_refused(key, value, prepared):
    rows = [make_row(ROWS[1], prepared), make_row(ROWS[2], prepared, **{key: value})]
    key = key.replace('pipeline.2', 'pipeline[2]')
    with pytest.raises(UserError, match=re.escape(f'maskrcnn_r50_fpn_cbam differs from maskrcnn_r50_fpn in {key} ')):
        ablation.check_comparable(rows)


def test_a_first_row_declares_nothing(prepared):
    with pytest.raises(UserError, match=r'maskrcnn_r50 differs from .* not in its ablation_variable = \[\]'):
        ablation.check_comparable([make_row(ROWS[1], prepared), make_row(ROWS[0], prepared)])


def test_a_prefix_ends_at_a_dot(prepared):
    rows = [make_row(ROWS[1], prepared), make_row(ROWS[2], prepared)]
    rows[1].cfg.ablation_variable = ['model.back']
    with pytest.raises(UserError, match=r'in model\.backbone'):
        ablation.check_comparable(rows)


def test_a_list_that_is_declared_may_grow(prepared):
    above = make_row(ROWS[2], prepared)
    row = dataclasses.replace(above, name='with_one_step_more', cfg=copy.deepcopy(above.cfg))
    row.cfg.train_dataloader.dataset.pipeline.insert(3, dict(type='RandomFlip', prob=0.1))
    row.cfg.ablation_variable = ['train_dataloader.dataset.pipeline']
    ablation.check_comparable([above, row])
    row.cfg.ablation_variable = ['train_dataloader.dataset.pipe']
    with pytest.raises(UserError, match=r'in train_dataloader\.dataset\.pipeline\['):
        ablation.check_comparable([above, row])


def test_a_row_given_twice(prepared):
    with pytest.raises(UserError, match='given twice'):
        ablation.check_comparable([make_row(ROWS[0], prepared)] * 2)


def test_digest_is_of_what_is_computed(prepared, tmp_path):
    """Not of the place: the same set elsewhere gives the same digest. Any other key, and other labels, another one."""
    row = make_row(ROWS[2], prepared)
    elsewhere = shutil.copytree(prepared, tmp_path / 'elsewhere')
    assert make_row(ROWS[2], elsewhere, work_dir=str(tmp_path)).digest == row.digest
    digests = {row.digest, make_row(ROWS[1], prepared).digest}
    digests.add(make_row(ROWS[2], prepared, **{'optim_wrapper.optimizer.lr': 1e-3}).digest)
    path = elsewhere / 'annotations/test.json'
    content = read_json(path)
    path.write_text(json.dumps(dict(content, annotations=content['annotations'][1:])))
    digests.add(make_row(ROWS[2], elsewhere).digest)
    assert len(digests) == 4


def test_seeds_and_machines_share_a_digest(prepared, monkeypatch):
    """Runs of a GPU, in mixed precision, are found by a machine without one."""
    config = str(ROOT / f'configs/{ROWS[0]}.py')
    digests = set()
    for seed, has_cuda in ((0, False), (1, False), (0, True)):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda has_cuda=has_cuda: has_cuda)
        cfg = run_config.training_config(config, dict(data_root=str(prepared)), seed=seed)
        digests.add(ablation.config_digest(cfg))
    assert len(digests) == 1


def test_a_run_in_progress_is_left_alone(prepared, tmp_path):
    row = make_row(ROWS[0], prepared)
    folder = row.folder(tmp_path) / 'seed_0'
    folder.mkdir(parents=True)
    with open(folder / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match='another process trains this run'):
            ablation.run_row(row, 0, tmp_path, lambda done: None)


def test_a_tool_that_fails_without_a_word_is_given_none_of_an_earlier_call(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, 'PROJECT_ROOT', tmp_path)
    (tmp_path / 'tools').mkdir()
    calls = [('print("error: the disk is full"); raise SystemExit(2)', 'the disk is full')]
    calls += [('raise SystemExit(2)', 'no message'), ('print("\\nerror: no data"); raise SystemExit(2)', 'no data')]
    with open(tmp_path / 'lock', 'w') as lock:
        for program, message in calls:
            (tmp_path / 'tools/train.py').write_text(program)
            with pytest.raises(UserError, match=rf'tools/train\.py failed: {message}; its log'):
                ablation.run_tool(['train'], tmp_path / 'train.log', lock, lambda: None)


def test_finished_runs_are_read_whatever_their_seed(prepared, tmp_path):
    row, other = make_row(ROWS[0], prepared), make_row(ROWS[1], prepared)
    evidence = dict(image=[], label=[], hits=[], ignored=[], actual=[[1]], pq=[0.5])
    for seed in (2, 0):
        folder = row.folder(tmp_path) / f'seed_{seed}'
        folder.mkdir(parents=True)
        write_json(folder / 'result.json', dict(seed=seed, test_images=['a.png'], evidence=evidence))
    runs = ablation.read_runs([row, other], tmp_path)
    assert [run['seed'] for run in runs[ROWS[0]]] == [0, 2] and runs[ROWS[1]] == []
    ablation.run_row(row, 2, tmp_path, lambda done: pytest.fail('a finished run was run again'))
    folder = other.folder(tmp_path) / 'seed_0'
    folder.mkdir(parents=True)
    write_json(folder / 'result.json', dict(seed=0, test_images=['b.png'], evidence=evidence))
    with pytest.raises(UserError, match='tested on different images'):
        ablation.read_runs([row, other], tmp_path)
