"""The table of an ablation from the results of its runs."""

import csv
import io

import numpy as np

from cellseg_mm.utils import markdown_table

from .bootstrap import CONFIDENCE, paired_difference

# the metrics of the table; the first three with differences between rows
METRICS = ('segm_AP50_max1000', 'segm_mAP_max1000', 'PQ', 'segm_AP50_max100', 'segm_mAP_max100', 'mPQ', 'AJI', 'Dice')
METRICS += ('F1_detection',)
COMPARED = METRICS[:3]
COSTS = ('parameters', 'checkpoint_mib', 'seconds_an_epoch', 'peak_memory_mib')


def summarise(runs: dict, num_resamples: int = 1000) -> list:
    """Summarise each row that has a run.

    Args:
        runs (dict[str, list]): Name of a row to its runs' results, with :class:`Evidence`; all on the same test images.
        num_resamples (int): Resamples for the intervals.

    Returns:
        list[dict]: For each row, in order: ``row``, ``seeds``, ``figures`` (metric to its mean and std over the seeds;
        std with n - 1, nan for one seed), ``differences`` to the row above (metric to the difference, low and high of
        :func:`paired_difference`; empty for the first row), and the means of parameters, checkpoint_mib,
        seconds_an_epoch and peak_memory_mib.
    """
    rows, above = [], None
    for name, found in runs.items():
        if not found:
            continue
        evidence = {run['seed']: run['evidence'] for run in found}
        values = {key: _column(found, key) for run in found for key in run['figures']}
        rows.append(
            dict(
                row=name,
                seeds=[run['seed'] for run in found],
                figures={key: dict(mean=float(column.mean()), std=_std(column)) for key, column in values.items()},
                differences=paired_difference(evidence, above, num_resamples) if above else {},
                **{key: float(np.mean([run[key] for run in found])) for key in COSTS},
            )
        )
        above = evidence
    return rows


def _column(found: list, key: str) -> np.ndarray:
    """(N,) float64; nan for a run without this value, such as a run of another version."""
    return np.array([run['figures'].get(key) for run in found], np.float64)


def _std(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float('nan')


def to_markdown(rows: list, runs: dict) -> str:
    """Tables of metrics, differences, costs, and the origin of the runs."""
    metrics = [
        [row['row'], len(row['seeds']), *(_mean_and_std(row['figures'].get(key)) for key in METRICS)] for row in rows
    ]
    parts = [markdown_table(['row', 'seeds', *METRICS], metrics)]
    parts.append('Mean and standard deviation over the seeds.')
    differences = [
        [row['row'], *(_with_interval(*row['differences'][key]) for key in COMPARED)]
        for row in rows
        if row['differences']
    ]
    if differences:
        parts.append(markdown_table(['difference to the row above', *COMPARED], differences))
        parts.append(f'{CONFIDENCE} % bootstrap interval over test images and seeds, paired.')
    costs = [[row['row'], f'{row["parameters"]:,.0f}'] + [f'{row[key]:.1f}' for key in COSTS[1:]] for row in rows]
    parts.append(markdown_table(['row', 'parameters', 'checkpoint MiB', 's an epoch', 'peak memory MiB'], costs))
    origins = [_origin(run) for found in runs.values() for run in found]
    parts.append(markdown_table(['row', 'seed', 'digest', 'commit', 'trained on'], [entry[:5] for entry in origins]))
    for versions in sorted({entry[5] for entry in origins}):
        used_by = ', '.join(f'{row} {seed}' for row, seed, *_, own in origins if own == versions)
        parts.append(f'{versions} ({used_by})')
    return '\n\n'.join(parts) + '\n'


def _mean_and_std(metric: dict | None) -> str:
    """As text, empty for nan and None."""
    if metric is None or np.isnan(metric['mean']):
        return ''
    return f'{metric["mean"]:.3f}' if np.isnan(metric['std']) else f'{metric["mean"]:.3f} ± {metric["std"]:.3f}'


def _with_interval(value: float, low: float, high: float) -> str:
    """As text, empty for nan."""
    return '' if np.isnan(value) else f'{value:+.3f} [{low:+.3f}, {high:+.3f}]'


def _origin(run: dict) -> list:
    versions = ', '.join(f'{name} {number}' for name, number in run['trained_by']['versions'].items() if number)
    trained = [run['trained_by'][key] for key in ('commit', 'device')]
    return [run['row'], run['seed'], run['digest'], *trained, versions]


def to_csv(runs: dict) -> str:
    """One line for each run: its origin, metrics and costs; empty for a value that a run of another version lacks."""
    lines = [_flat(run) for found in runs.values() for run in found]
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(key for line in lines for key in line), lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(run: dict) -> dict:
    """A run's result without the evidence of single test images."""
    origin = dict(zip(('row', 'seed', 'digest', 'commit', 'device', 'versions'), _origin(run), strict=True))
    return origin | run['figures'] | {key: run[key] for key in (*COSTS, 'peak_memory_of')}
