"""The content of work dirs: logs, metrics, predictions, and what is missing."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellseg_mm.engine.checkpoint import best_checkpoint, epochs_done
from cellseg_mm.evaluation import (
    gather_evidence,
    make_scenes,
    metric_intervals,
    read_results,
    read_tested,
)
from cellseg_mm.evaluation.ablation_summary import METRICS
from cellseg_mm.evaluation.error_analysis import analyze_errors, group_by_image
from cellseg_mm.evaluation.instance_scores import nanmean
from cellseg_mm.utils import UserError, parse_config_text, read_json, scored_dataset
from cellseg_mm.visualization import read_scalars


@dataclass(frozen=True)
class Missing:
    """A part that a work dir lacks.

    Attributes:
        what: A sentence.
        command: The shell command that makes it; None if there is no such command.
    """

    what: str
    command: str | None = None


@dataclass(frozen=True)
class Scored:
    """Predictions compared with ground truth, image by image.

    Attributes:
        parts: Annotations and results of each image, see :func:`group_by_image`.
        scenes: The :class:`Scene` of each image, with all predictions.
        errors: See :func:`analyze_errors`.
        intervals: See :func:`metric_intervals`.
        images: Folder of the images.
    """

    parts: list
    scenes: list
    errors: dict
    intervals: dict
    images: Path


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: Its name in the page.
        config: Config of its training, or of its test without a training; empty without both.
        config_name: Name of the config's file.
        scalars: See :func:`read_scalars`; None without a training log.
        metrics: Content of ``test_metrics.json``, nan as None; None without this file.
        scored: None without predictions that give these metrics.
        sessions: A dict for each start: ``started``, ``job`` and ``provenance`` (empty if not recorded).
        missing: What it lacks.
    """

    name: str
    config: dict
    config_name: str
    scalars: tuple | None
    metrics: dict | None
    scored: Scored | None
    sessions: list
    missing: list

    @property
    def classes(self) -> list:
        """Names of the classes that it was scored on."""
        return [name.removeprefix('PQ_') for name in self.metrics or {} if name.startswith('PQ_')]


def read_run(folder: Path, name: str) -> Run:
    """Read a work dir of tools/train.py, of tools/test.py or of both, or the folder of a run of tools/ablate.py.

    Raises:
        UserError: If the folder holds neither a training log nor the metrics of a test, or one of them is damaged.
    """
    train_dir, test_dir = (folder / part if (folder / part).is_dir() else folder for part in ('train', 'test'))
    logs = sorted(train_dir.glob('*/vis_data/scalars.json'))
    # MMEngine writes the metrics of a test here, and those of a validation elsewhere
    folders = sorted(log.parent for log in test_dir.glob('*/vis_data'))
    tests = [path for path in (each / f'{each.name}.json' for each in folders) if path.exists()]
    metrics_file = test_dir / 'test_metrics.json'
    if not logs and not metrics_file.exists():
        raise UserError(
            f'{folder}: no training log and no test_metrics.json; give a work dir of tools/train.py, tools/test.py or '
            'tools/ablate.py'
        )
    train_config = logs[-1].with_name('config.py') if logs else None
    test_config = tests[-1].parent / 'vis_data/config.py' if tests else train_config
    config_path = train_config or test_config
    config = _read_config(config_path) if config_path else {}
    scalars = read_scalars(train_dir) if logs else None
    metrics = _read_metrics(metrics_file) if metrics_file.exists() else None

    missing, scored = [], None
    if scalars is None:
        missing.append(Missing('No training log, so there are no curves; give its work dir too.'))
    else:
        missing += _unfinished(train_dir, train_config, config, scalars)
    command = _test_command(train_dir, test_dir, config_path, config)
    predictions = test_dir / 'predictions.json'
    if metrics is None:
        missing.append(Missing('The run was not tested, so there are no metrics, errors and pictures.', command))
    elif not predictions.exists():
        text = 'No predictions.json beside test_metrics.json, so there are no intervals, errors and pictures.'
        missing.append(Missing(text, command))
    elif test_config is None:
        missing.append(Missing('No log of the test, which names the images of the predictions.', command))
    else:
        try:
            dataset = scored_dataset(_read_config(test_config)['test_dataloader']['dataset'])
            scored = _score(metrics, predictions, dataset)
        except UserError as error:
            missing.append(Missing(f'No intervals, errors and pictures: {error}'))
    # MMEngine leaves a copy under the name of the config's file; vis_data/config.py was perhaps given as a config too
    copies = [path for path in train_dir.glob('*.py') if path.stem != 'config']
    config_name = max(copies, key=lambda path: path.stat().st_mtime).stem if copies else ''
    sessions = [_session(log, 'training') for log in logs] + [_session(path, 'test') for path in tests]
    return Run(name, config, config_name, scalars, metrics, scored, sessions, missing)


def _read_config(path: Path) -> dict:
    try:
        return parse_config_text(path.read_text('utf-8'))
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f'{path}: not a config written by tools/train.py or tools/test.py ({error})') from error


def _read_metrics(path: Path) -> dict:
    content = read_json(path, 'tools/test.py writes it')
    if not isinstance(content, dict):
        raise UserError(f'{path}: not a table of metrics; run tools/test.py again')
    metrics = {name.removeprefix('cells/'): value for name, value in content.items()}
    absent = next((name for name in (*METRICS, 'score_thr') if name not in metrics), None)
    if absent:
        raise UserError(f'{path}: {absent} is missing; run tools/test.py again')
    return metrics


def _unfinished(train_dir: Path, config_path: Path, config: dict, scalars: tuple) -> list:
    """What is missing of a training, by its last checkpoint, or by its log if there is no checkpoint."""
    planned = config['train_cfg'].get('max_epochs', 0)  # absent if a training counts iterations
    done = epochs_done(train_dir) or max(scalars[0].get('loss', {0: 0}))
    if done >= planned:
        return []
    command = ['python', 'tools/train.py', config_path, '--resume', '--work-dir', train_dir]
    text = f'Training is at epoch {done} of {planned}. If it no longer runs, this command continues it.'
    return [Missing(text, shlex.join(map(str, command)))]


def _test_command(train_dir: Path, test_dir: Path, config_path: Path | None, config: dict) -> str:
    done = epochs_done(train_dir)
    last = train_dir / f'epoch_{done}.pth' if done else config.get('load_from')
    checkpoint = best_checkpoint(train_dir) or last or 'CHECKPOINT'
    command = ['python', 'tools/test.py', config_path or 'CONFIG', checkpoint, '--work-dir', test_dir]
    return shlex.join(map(str, [*command, '--out', test_dir / 'predictions.json']))


def _session(log: Path, job: str) -> dict:
    folder = next(parent for parent in log.parents if parent.name != 'vis_data')
    path = folder / 'provenance.json'
    provenance = read_json(path, 'tools/train.py and tools/test.py write it') if path.exists() else {}
    day, time = folder.name[:8], folder.name[9:]  # MMEngine's names: 20261125_044728
    started = f'{day[:4]}-{day[4:6]}-{day[6:]} {time[:2]}:{time[2:4]}'
    return dict(started=started, job=job, provenance=provenance)


def _score(metrics: dict, predictions: Path, dataset: dict) -> Scored:
    """Compare the predictions of a test with its prepared data set.

    Raises:
        UserError: If one of them is missing or damaged, or they do not give the test's metrics.
    """
    root = Path(dataset['data_root'])
    annotations = root / dataset['ann_file']
    ground_truth, results = read_tested(dataset), read_results(predictions)
    try:
        parts = group_by_image(ground_truth, results)
        scenes = make_scenes(ground_truth, results)
    except ValueError as error:
        raise UserError(f'{predictions}: {error}; are these predictions for {annotations}?') from error
    errors = analyze_errors(ground_truth, results, scenes, metrics['score_thr'])
    again = {f'segm_AP50_max1000_{entry["name"]}': entry['AP50'] for entry in errors['by_class']}
    again |= dict(segm_AP50_max1000=errors['total']['AP50'], PQ=nanmean([image['pq'] for image in errors['images']]))
    for name, value in again.items():
        found, expected = np.float64(value), np.float64(metrics.get(name))  # nan of None
        if not np.isclose(found, expected, rtol=0, atol=1e-6, equal_nan=True):
            raise UserError(
                f'{predictions} gives {name} = {found:.3f}, test_metrics.json beside it {expected:.3f}: they come from '
                f'two tests, or {annotations} has changed since'
            )
    intervals = metric_intervals(gather_evidence(ground_truth, results, metrics['score_thr']), errors['classes'])
    return Scored(parts, scenes, errors, intervals, root / dataset['data_prefix']['img'])


@dataclass(frozen=True)
class Ablation:
    """The table of tools/ablate.py.

    Attributes:
        rows: See :func:`cellseg_mm.evaluation.summarise`.
        runs: Results of the runs by name of the row, without their evidence.
        missing: What it lacks.
    """

    rows: list
    runs: dict
    missing: list


def is_ablation(folder: Path) -> bool:
    """Whether a folder is the --out of tools/ablate.py."""
    return (folder / 'runs').is_dir()


def read_ablation(out: Path) -> tuple:
    """Read the --out of tools/ablate.py.

    Returns:
        tuple: :class:`Ablation`, None before the first run is finished; and the names of the runs to show by folder:
        the first seed of each row that has a log, or without a table all runs that have one.

    Raises:
        UserError: If there is neither a log nor a table, or the table is damaged.
    """
    folders = sorted({log.parents[3] for log in out.glob('runs/*/seed_*/train/*/vis_data/scalars.json')})
    table = out / 'ablation.json'
    if not table.exists() and not folders:
        raise UserError(f'{out}: no run of this ablation has a log yet')
    if not table.exists():
        return None, {folder: _run_name(folder) for folder in folders}
    content = read_json(table, 'tools/ablate.py writes it')
    runs = {row['row']: [run for run in content['runs'] if run['row'] == row['row']] for row in content['rows']}
    finished = {row: [_run_folder(out, run) for run in found] for row, found in runs.items()}
    unfinished = set(folders).difference(*finished.values())
    text = '{} is not in the table. The tools/ablate.py command that started it continues it.'
    missing = [Missing(text.format(_run_name(folder))) for folder in sorted(unfinished)]
    shown = {}
    text = 'There is no log of {} here, so there are no curves, errors and pictures of it.'
    for own in finished.values():
        logged = [folder for folder in own if folder in folders]
        shown |= {folder: _run_name(folder) for folder in logged[:1]}
        missing += [Missing(text.format(_run_name(folder))) for folder in own if folder not in folders]
    return Ablation(content['rows'], runs, missing), shown


def _run_folder(out: Path, run: dict) -> Path:
    return out / 'runs' / f'{run["row"]}-{run["digest"]}' / f'seed_{run["seed"]}'


def _run_name(folder: Path) -> str:
    """``maskrcnn_r50_fpn, seed 0`` of ``.../maskrcnn_r50_fpn-DIGEST/seed_0``."""
    return f'{folder.parent.name.rsplit("-", 1)[0]}, {folder.name.replace("_", " ")}'
