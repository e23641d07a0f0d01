"""The HTML page about runs: its sections, from the content of work dirs, for the template page.html."""

import itertools
from datetime import datetime
from pathlib import Path

import jinja2
import numpy as np
from tqdm import tqdm

from cellseg_mm.engine.provenance import provenance
from cellseg_mm.evaluation import class_table
from cellseg_mm.evaluation.ablation_summary import COMPARED, COSTS, METRICS
from cellseg_mm.evaluation.bootstrap import CONFIDENCE
from cellseg_mm.evaluation.error_analysis import MISSED, SPURIOUS
from cellseg_mm.utils import PROJECT_ROOT, diff_configs, load_config
from cellseg_mm.utils.config import flatten, show_value
from cellseg_mm.visualization import plot_ablation, plot_curves, validation_losses
from cellseg_mm.visualization.colors import KIND_COLORS, class_colors, hex_color
from cellseg_mm.visualization.error_pictures import plot_precision_recall

from .examples import choose_examples
from .pictures import plot_sources
from .run import Ablation, Run, is_ablation, read_ablation, read_run

CONFIGS = PROJECT_ROOT / 'configs'
# Name and meaning of the main metrics.
MEANINGS = dict(
    segm_AP50_max1000=('AP50 of masks', 'average precision at IoU 0.5'),
    segm_mAP_max1000=('mAP of masks', 'average precision, mean over IoU 0.5 to 0.95'),
    PQ=('PQ', 'panoptic quality regardless of class, mean over the images'),
    segm_AP50_max100=('AP50, at most 100', "with COCO's cap of 100 detections an image and class"),
    segm_mAP_max100=('mAP, at most 100', "with COCO's cap of 100 detections an image and class"),
    mPQ=('mPQ', 'panoptic quality of each class over all images, mean over the classes'),
    AJI=('AJI', 'aggregated Jaccard index regardless of class, mean over the images'),
    Dice=('Dice', 'cells against background, mean over the images'),
    F1_detection=('F1 of detection', 'cells found, by the distance of centroids'),
)
# Titles in the table of an ablation's costs.
COST_NAMES = dict(zip(COSTS, ('parameters', 'checkpoint MiB', 's an epoch', 'peak memory MiB'), strict=True))


def build_page(work_dirs: list) -> str:
    """The page about work dirs of tools/train.py, tools/test.py and tools/ablate.py: one run, or several compared.

    Args:
        work_dirs (list[Path]): In the order of the page, each once.

    Returns:
        str: HTML that needs no other file.

    Raises:
        UserError: If a work dir holds nothing to show, or a damaged file.
    """
    ablations, folders, names = [], [], []
    for folder in work_dirs:
        ablation, own = read_ablation(folder) if is_ablation(folder) else (None, {folder: folder.resolve().name})
        ablations += [ablation] if ablation else []
        folders += own.keys()
        names += own.values()
    names = [name if names.count(name) == 1 else str(folder) for folder, name in zip(folders, names, strict=True)]
    with tqdm(list(zip(folders, names, strict=True)), desc='scoring', unit='run') as progress:
        runs = [read_run(folder, name) for folder, name in progress]
    examples, not_shown = choose_examples(runs)
    missing = [('', part) for ablation in ablations for part in ablation.missing]
    missing += [(run.name if len(runs) > 1 else '', part) for run in runs for part in run.missing]
    subject = ', '.join(folder.resolve().name for folder in work_dirs)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, flatten=flatten)
    return environment.get_template('page.html').render(
        subject=subject,
        made=datetime.now(),
        here=provenance(),
        runs=runs,
        missing=missing,
        meanings=MEANINGS,
        compared=COMPARED,
        confidence=CONFIDENCE,
        ablations=[ablation_section(ablation) for ablation in ablations],
        metrics=metric_rows(runs),
        curves=curves_section(runs),
        classes=class_rows(runs),
        errors=[error_section(run) for run in runs if run.scored],
        examples=examples,
        not_shown=not_shown,
        class_colors=[hex_color(color) for color in class_colors(max((len(run.classes) for run in runs), default=0))],
        kind_colors={kind: hex_color(color) for kind, color in KIND_COLORS.items()},
        all_metrics=all_metrics(runs),
        differences=config_differences(runs),
    )


def _number(value: float | None, digits: int = 3, sign: str = '') -> str:
    return '-' if value is None or value != value else f'{value:{sign}.{digits}f}'


def _tested(runs: list) -> list:
    return [run for run in runs if run.metrics is not None]


def metric_rows(runs: list) -> list:
    """The main metrics: ``name``, ``label``, ``meaning`` and (value, low, high) of each tested run, nan if unknown."""
    nan = float('nan')
    rows = []
    for name in METRICS:
        label, meaning = MEANINGS[name]
        values = [
            (run.metrics[name], *(run.scored.intervals[name][1:] if run.scored and name in COMPARED else (nan, nan)))
            for run in _tested(runs)
        ]
        rows.append(dict(name=name, label=label, meaning=meaning, values=values))
    return rows


def all_metrics(runs: list) -> list:
    """All metrics of the tests, unrounded: (name, values), with None for a run that lacks the metric."""
    names = list(dict.fromkeys(name for run in _tested(runs) for name in run.metrics))
    return [(name, [run.metrics.get(name) for run in _tested(runs)]) for name in names]


def curves_section(runs: list) -> dict | None:
    """Losses and metrics over the epochs of the runs that have a log."""
    logged = {run.name: run.scalars for run in runs if run.scalars}
    if not logged:
        return None
    ends = []
    for name, (train, val) in logged.items():
        val_losses, source = validation_losses(val)
        for label, series in (('training loss', train.get('loss')), (f'loss of {source}', val_losses.get('loss'))):
            if series:
                first, last = min(series), max(series)
                ends.append(f'{name}: {label} {series[first]:.2f} at epoch {first}, {series[last]:.2f} at epoch {last}')
    return dict(plot_sources(lambda: plot_curves(logged)), alt='Curves over the epochs. ' + '; '.join(ends) + '.')


def class_rows(runs: list) -> tuple:
    """The main metrics by class, with a row for each run.

    Returns:
        tuple: Titles of the metrics; and for each class and for their mean ``name``, ``label`` (None for the mean) and
        ``rows``, each with ``run``, ``cells`` of the test images, ``interval`` of the first metric (both None if
        unknown) and ``values``.
    """
    titles, groups = [], {}
    for run in _tested(runs):
        (_, *titles), table = class_table(run.metrics, run.classes)
        labels = [*range(len(run.classes)), None]
        for label, (name, *values) in zip(labels, table, strict=True):
            cells = interval = None
            if run.scored:
                counts = run.scored.errors['total'] if label is None else run.scored.errors['by_class'][label]
                cells = counts['ground_truth']
                interval = run.scored.intervals['segm_AP50_max1000' + ('' if label is None else f'_{name}')][1:]
            group = groups.setdefault((label is None, name), dict(name=name, label=label, rows=[]))
            group['rows'].append(dict(run=run.name, cells=cells, interval=interval, values=values))
    return titles, [group for _, group in sorted(groups.items(), key=lambda item: item[0][0])]


def error_section(run: Run) -> dict:
    """Confusion matrix with the shares of its rows, counts by class and image, and curves of a scored run."""
    report = run.scored.errors
    matrix = np.array(report['confusion_matrix'])
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    levels = [f'{entry["name"]} {_number(entry["AP50"])}' for entry in report['by_class']]
    return dict(
        run=run.name,
        score_thr=report['score_thr'],
        columns=[*report['classes'], MISSED],
        rows=[*report['classes'], SPURIOUS],
        matrix=matrix.tolist(),
        shares=shares.tolist(),
        by_class=[*report['by_class'], dict(report['total'], name='all')],
        images=sorted(report['images'], key=lambda image: np.inf if image['pq'] is None else image['pq']),
        curves=dict(
            plot_sources(lambda: plot_precision_recall(report)),
            alt=f'Precision over recall of each class at mask IoU 0.5. AP50: {", ".join(levels)}.',
        ),
    )


def ablation_section(ablation: Ablation) -> dict:
    """The table of an ablation and its plot."""
    names = ', '.join(row['row'] for row in ablation.rows)
    plot = plot_sources(lambda: plot_ablation(ablation.rows, ablation.runs, COMPARED))
    alt = f'{", ".join(COMPARED)} of {names}, each seed, and the differences to the row above; numbers in the tables.'
    return dict(
        rows=ablation.rows,
        runs=[run for found in ablation.runs.values() for run in found],
        plot=dict(plot, alt=alt),
        metrics=METRICS,
        compared=COMPARED,
        confidence=CONFIDENCE,
        costs=COST_NAMES,
    )


def config_differences(runs: list) -> list:
    """The keys in which each config differs from the one above; for a single run, from the config file of its name.

    If several folders have a config of this name, the one with the fewest differences counts.

    Returns:
        list[dict]: ``title``, and ``rows`` of (key, old value, new value) as texts. The work dir does not count.
    """
    configs = [(run.name, run.config) for run in runs if run.config]
    if len(runs) == 1 and configs:
        files = [path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts]
        origins = [path for path in files if path.stem == runs[0].config_name]
        pairs = [(path.relative_to(PROJECT_ROOT).as_posix(), load_config(path).to_dict()) for path in origins]
        configs = [*sorted(pairs, key=lambda pair: len(_differences(pair[1], runs[0].config)))[:1], *configs]
    return [
        dict(
            title=f'{old_name} → {name}',
            rows=[(key, *map(show_value, values)) for key, *values in _differences(old, new)],
        )
        for (old_name, old), (name, new) in itertools.pairwise(configs)
    ]


def _differences(old: dict, new: dict) -> list:
    return [row for row in diff_configs(old, new) if row[0] != 'work_dir']
