import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from random_results import random_results

from cellseg_mm.evaluation import evaluate, gather_evidence, summarise
from cellseg_mm.evaluation.ablation_summary import COMPARED, to_csv, to_markdown
from cellseg_mm.visualization import plot_ablation


def make_run(row, seed, dropped):
    """Scores of a detector that finds all but a share of what another one does."""
    ground_truth, results = random_results(4, num_images=3, num_cells=30, num_detections=35)
    kept = np.random.default_rng(seed).random(len(results)) >= dropped
    results = [entry for entry, keep in zip(results, kept, strict=True) if keep]
    return dict(
        row=row,
        seed=seed,
        digest=f'digest of {row}',
        figures=evaluate(ground_truth, results, score_thr=0.3),
        parameters=1_234_567,
        checkpoint_mib=10.0 + seed,
        seconds_an_epoch=2.0,
        peak_memory_mib=100.0,
        peak_memory_of='process',
        trained_by=dict(commit='abc', device='a device', versions=dict(torch='1.0', absent=None)),
        evidence=gather_evidence(ground_truth, results, 0.3),
    )


@pytest.fixture(scope='module')
def runs():
    return dict(
        plain=[make_run('plain', seed, 0.4) for seed in (0, 1)], better=[make_run('better', 0, 0.1)], unfinished=[]
    )


@pytest.fixture(scope='module')
def rows(runs):
    return summarise(runs, num_resamples=100)


def test_means_and_deviations(runs, rows):
    assert [row['row'] for row in rows] == ['plain', 'better']
    values = [run['figures']['PQ'] for run in runs['plain']]
    assert rows[0]['figures']['PQ'] == dict(mean=np.mean(values), std=np.std(values, ddof=1))
    assert np.isnan(rows[1]['figures']['PQ']['std'])  # of one seed
    assert rows[0]['checkpoint_mib'] == 10.5 and rows[0]['seeds'] == [0, 1]


def test_differences_to_the_row_above(rows):
    assert rows[0]['differences'] == {}
    for metric in COMPARED:
        difference, low, high = rows[1]['differences'][metric]
        expected = rows[1]['figures'][metric]['mean'] - rows[0]['figures'][metric]['mean']
        assert difference == pytest.approx(expected, abs=1e-9)
        assert low < difference < high
    assert rows[1]['differences']['PQ'][1] > 0  # most cells of the plain row are dropped


def test_markdown(runs, rows):
    text = to_markdown(rows, runs)
    pq = rows[0]['figures']['PQ']
    assert f'{pq["mean"]:.3f} ± {pq["std"]:.3f}' in text
    assert '{:+.3f} [{:+.3f}, {:+.3f}]'.format(*rows[1]['differences']['PQ']) in text
    for part in ('1,234,567', 'digest of better', 'a device', 'torch 1.0 (plain 0, plain 1, better 0)'):
        assert part in text
    assert 'unfinished' not in text


def test_runs_of_other_versions_may_have_other_metrics(runs):
    older, newer = ({**run, 'figures': dict(run['figures'])} for run in runs['plain'])
    del older['figures']['Dice']
    newer['figures']['new'] = 0.5
    mixed = dict(plain=[older, newer])
    (row,) = summarise(mixed, num_resamples=10)
    assert np.isnan(row['figures']['Dice']['mean']) and np.isnan(row['figures']['new']['mean'])
    assert row['figures']['PQ']['mean'] == np.mean([run['figures']['PQ'] for run in runs['plain']])
    assert 'plain' in to_markdown(summarise(dict(plain=[older]), num_resamples=10), dict(plain=[older]))
    lines = list(csv.DictReader(io.StringIO(to_csv(mixed))))
    assert [line['new'] for line in lines] == ['', '0.5'] and lines[0]['Dice'] == ''


def test_csv_reads_back(runs, rows):
    lines = list(csv.DictReader(io.StringIO(to_csv(runs))))
    assert [(line['row'], line['seed']) for line in lines] == [('plain', '0'), ('plain', '1'), ('better', '0')]
    for line, run in zip(lines, [*runs['plain'], *runs['better']], strict=True):
        assert float(line['segm_AP50_max1000']) == run['figures']['segm_AP50_max1000']
        assert line['commit'] == 'abc' and line['versions'] == 'torch 1.0'


def test_picture(runs, rows):
    levels, *_, changes = plot_ablation(rows, runs, COMPARED).axes
    dots = [line.get_ydata() for line in levels.lines if line.get_marker() == 'o']
    assert list(dots[0]) == [run['figures']['segm_AP50_max1000'] for run in runs['plain']]
    value, low, high = rows[1]['differences']['PQ']
    (interval,) = changes.collections
    assert [value] in [list(line.get_ydata()) for line in changes.lines]
    np.testing.assert_allclose(interval.get_segments()[0][:, 1], [low, high])


def test_an_interval_need_not_hold_the_difference(runs, rows):
    rows = [rows[0], dict(rows[1], differences={key: (0.5, 0.1, 0.4) for key in COMPARED})]
    picture = plot_ablation(rows, runs, COMPARED)
    picture.draw_without_rendering()
    (interval,) = picture.axes[-1].collections
    np.testing.assert_allclose(interval.get_segments()[0][:, 1], [0.1, 0.4])
    assert '+0.500 [+0.100, +0.400]' in to_markdown(rows, runs)


def test_what_is_undefined_stays_empty(runs):
    """As without a test image that has a cell; in the files nan is None."""
    undefined = {
        row: [dict(run, figures=dict.fromkeys(run['figures'], None)) for run in found] for row, found in runs.items()
    }
    for found in undefined.values():
        for run in found:
            evidence = run['evidence']
            pq = np.full_like(evidence.pq, np.nan)
            run['evidence'] = replace(evidence, actual=np.zeros_like(evidence.actual), pq=pq)
    rows = summarise(undefined, num_resamples=10)
    text = to_markdown(rows, undefined)
    assert 'nan' not in text
    assert '| better                      |                   |                  |    |' in text
    read_back = json.loads(json.dumps(rows).replace('NaN', 'null'))
    assert read_back[1]['differences']['PQ'] == [None] * 3
    for table in (rows, read_back):
        plot_ablation(table, undefined, COMPARED).draw_without_rendering()
