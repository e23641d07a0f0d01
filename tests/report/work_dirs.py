"""Work dirs as the tools leave them, written by hand; the metrics are those of the predictions."""

import json
import shutil
from pathlib import Path

from conftest import read_json

from cellseg_mm.evaluation import evaluate, gather_evidence, summarise
from cellseg_mm.utils import write_json

SCORE_THR = 0.4


def write_training(folder: Path, prepared: Path, **config) -> Path:
    """A training of two epochs, of a config with these keys besides."""
    log = folder / '20260101_000000/vis_data'
    log.mkdir(parents=True)
    lines = [dict(loss=4.0 / epoch, loss_cls=1.0, lr=0.1, epoch=epoch, step=10 * epoch) for epoch in (1, 2)]
    lines += [{'val/loss': 3.0, 'step': 2}, {'cells/segm_AP50_max1000': 0.5, 'cells/PQ': 0.3, 'step': 2}]
    (log / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    write_config(log / 'config.py', prepared, **config)
    write_json(log.parent / 'provenance.json', dict(commit='abc', device='a CPU', versions=dict(torch='2.13.0')))
    (folder / 'best_epoch_2.pth').touch()
    (folder / 'last_checkpoint').write_text('elsewhere/epoch_2.pth')
    return folder


def write_config(path: Path, prepared: Path, **config) -> None:
    images = dict(img='images/')
    dataset = dict(data_root=f'{prepared}/', ann_file='annotations/test.json', data_prefix=images)
    content = dict(train_cfg=dict(max_epochs=2), test_dataloader=dict(dataset=dataset), **config)
    path.write_text(''.join(f'{key} = {value!r}\n' for key, value in content.items()))


def write_test(folder: Path, prepared: Path, keep: int = 5) -> Path:
    """A test of predictions that miss every ``keep``-th cell and take every seventh for one of the next class."""
    log = folder / '20260102_000000'
    (log / 'vis_data').mkdir(parents=True)
    write_config(log / 'vis_data/config.py', prepared)
    ground_truth = read_json(prepared / 'annotations/test.json')
    entries = [
        dict(
            image_id=entry['image_id'],
            category_id=entry['category_id'] % len(ground_truth['categories']) + 1
            if index % 7 == 0
            else entry['category_id'],
            bbox=entry['bbox'],
            score=0.3 if index % 6 == 0 else 0.9,
            segmentation=entry['segmentation'],
        )
        for index, entry in enumerate(ground_truth['annotations'])
        if index % keep
    ]
    write_json(folder / 'predictions.json', entries)
    metrics = evaluate(ground_truth, entries, SCORE_THR)
    for path in (folder / 'test_metrics.json', log / f'{log.name}.json'):
        write_json(path, {f'cells/{name}': value for name, value in metrics.items()})
    return folder


def write_ablation(out: Path, prepared: Path, rows: dict) -> Path:
    """An ablation of one seed, and of the last row one that was interrupted; rows are names to ``keep``."""
    runs = {}
    for row, keep in rows.items():
        folder = out / 'runs' / f'{row}-0123456789ab/seed_0'
        write_training(folder / 'train', prepared, placement=row)
        write_test(folder / 'test', prepared, keep)
        ground_truth, results = (
            read_json(path) for path in (prepared / 'annotations/test.json', folder / 'test/predictions.json')
        )
        metrics = read_json(folder / 'test/test_metrics.json')
        runs[row] = [
            dict(
                row=row,
                seed=0,
                digest='0123456789ab',
                figures={name.removeprefix('cells/'): value for name, value in metrics.items()},
                trained_by=dict(commit='abc', device='a CPU', versions={}),
                evidence=gather_evidence(ground_truth, results, SCORE_THR),
                **dict.fromkeys(('parameters', 'checkpoint_mib', 'seconds_an_epoch', 'peak_memory_mib'), 1234.5),
            )
        ]
    plain = [{key: value for key, value in run.items() if key != 'evidence'} for (run,) in runs.values()]
    write_json(out / 'ablation.json', dict(rows=summarise(runs, num_resamples=50), runs=plain))
    shutil.copytree(folder / 'train', folder.with_name('seed_1') / 'train')
    return out
