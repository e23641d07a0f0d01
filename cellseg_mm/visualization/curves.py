"""Plots of runs over their epochs, from the scalars that MMEngine logs."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cellseg_mm.utils import UserError

# metrics and their line styles; a comparison of runs shows the first two
METRICS = {
    'segm_AP50_max1000': '-',
    'PQ': '--',
    'segm_mAP_max1000': '-.',
    'bbox_AP50_max1000': ':',
}


def read_scalars(work_dir: Path) -> tuple:
    """Training and validation scalars of a run, over its epochs.

    Args:
        work_dir (Path): Work dir of tools/train.py. A resumed run has several logs; if two hold the same epoch, the
            last one counts. A log that begins with the first epoch starts a new run: earlier logs are left out.

    Returns:
        tuple: Two dicts, name to {epoch: value}. Training values are means over the epoch's log lines; ``memory``
        (MiB that torch had allocated on a GPU since the line before) is their highest.

    Raises:
        UserError: If the log is missing or damaged.
    """
    logs = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not logs:
        raise UserError(f'{work_dir}: no */vis_data/scalars.json; give the work dir of a tools/train.py run')
    train, val = defaultdict(dict), defaultdict(dict)
    for log in logs:
        entries = _entries(log)
        epochs = defaultdict(lambda: defaultdict(list))
        for entry in entries:
            if 'loss' in entry:
                for name, value in entry.items():
                    epochs[entry['epoch']][name].append(value)
        if 1 in epochs:
            train.clear()
            val.clear()
        for entry in entries:
            if 'loss' not in entry:
                for name, value in entry.items():
                    val[name][entry['step']] = value
        for epoch, values in epochs.items():
            for name, series in values.items():
                train[name][epoch] = float(max(series) if name == 'memory' else np.mean(series))
    return dict(train), dict(val)


def validation_losses(val: dict) -> tuple:
    """The validation losses among a run's scalars, and what they were computed on.

    Args:
        val (dict): Validation scalars from :func:`read_scalars`.

    Returns:
        tuple: Dict of ``loss`` and its parts to {epoch: value}; ``'validation'`` or ``'validation windows'``.
    """
    for prefix, label in (('val/window_', 'validation windows'), ('val/', 'validation')):
        found = {name.removeprefix(prefix): series for name, series in val.items() if name.startswith(prefix)}
        if found:
            return found, label
    return {}, 'validation'


def _entries(log: Path) -> list:
    """The lines of a log, without a last one that a killed run left half-written."""
    lines = log.read_text('utf-8').splitlines()
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise UserError(f'{log}: line {number} is not valid JSON ({error}); the log is damaged') from error
    return entries


def plot_curves(runs: dict) -> Figure:
    """Plot training and validation loss, and validation metrics beside them.

    A single run also shows the parts of the loss and the learning rate; several runs share the two plots, each in its
    own colour.

    Args:
        runs (dict[str, tuple]): Name of a run to its scalars from :func:`read_scalars`.
    """
    figure = Figure(figsize=(12, 6.5 if len(runs) == 1 else 4.5), layout='constrained')
    if len(runs) == 1:
        grid = figure.add_gridspec(2, 2, height_ratios=[3, 2])
        losses, parts, metrics, rates = (figure.add_subplot(grid[at]) for at in ((0, 0), (1, 0), (0, 1), (1, 1)))
        _draw_parts(parts, *runs[next(iter(runs))])
        _line(rates, runs[next(iter(runs))][0].get('lr', {}), None, color=rcParams['text.color'])
        rates.set(title='learning rate', ylim=(0, None))
    else:
        losses, metrics = figure.subplots(1, 2)
    colors = colormaps['tab10'].colors
    for index, (name, (train, val)) in enumerate(runs.items()):
        prefix = '' if len(runs) == 1 else f'{name}: '
        color = colors[index % len(colors)]
        _line(losses, train.get('loss', {}), f'{prefix}training', color=color)
        val_color = colors[1] if len(runs) == 1 else color
        val_losses, label = validation_losses(val)
        _line(losses, val_losses.get('loss', {}), f'{prefix}{label}', color=val_color, linestyle='--')
        for number, (metric, style) in enumerate(METRICS.items() if len(runs) == 1 else list(METRICS.items())[:2]):
            own = colors[number] if len(runs) == 1 else color
            _line(metrics, val.get(f'cells/{metric}', {}), f'{prefix}{metric}', linestyle=style, color=own)
    losses.set(title='loss', ylim=(0, None))
    metrics.set(title='validation metrics', ylim=(0, 1))
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.set_xlabel('epoch')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize='small')
    return figure


def _draw_parts(axes: Axes, train: dict, val: dict) -> None:
    """Draw the parts of the loss: solid in training, dashed in validation."""
    names, val_losses = sorted(name for name in train if name.startswith('loss_')), validation_losses(val)[0]
    for name, color in zip(names, colormaps['tab10'].colors, strict=False):
        _line(axes, train[name], name, color=color, linewidth=1)
        _line(axes, val_losses.get(name, {}), None, color=color, linewidth=1, linestyle='--')
    axes.set(title='parts of the loss (dashed: validation)', ylim=(0, None))


def _line(axes: Axes, series: dict, label: str | None, **style) -> None:
    if series:
        epochs = sorted(series)
        if label and label[0] == '_':  # Matplotlib's legends leave these out
            label = f' {label}'
        axes.plot(epochs, [series[epoch] for epoch in epochs], marker='.', label=label, **style)
