"""Curves of a run from the scalars that MMEngine logs."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cellseg_mm.utils import UserError


def read_scalars(work_dir: Path) -> tuple:
    """Training and validation scalars of a run, over its epochs.

    Args:
        work_dir (Path): Of tools/train.py. A resumed run has several logs; of an epoch in more than one the last holds.

    Returns:
        tuple: Two dicts, name to {epoch: value}. Training values are means over the epoch's log lines.

    Raises:
        UserError: If there is no log.
    """
    logs = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not logs:
        raise UserError(f'{work_dir}: no */vis_data/scalars.json; give the work dir of a tools/train.py run')
    train, val = defaultdict(dict), defaultdict(dict)
    for log in logs:
        epochs = defaultdict(lambda: defaultdict(list))
        for line in log.read_text('utf-8').splitlines():
            entry = json.loads(line)
            if 'loss' in entry:
                for name, value in entry.items():
                    epochs[entry['epoch']][name].append(value)
            else:
                for name, value in entry.items():
                    val[name][entry['step']] = value
        for epoch, values in epochs.items():
            for name, series in values.items():
                train[name][epoch] = float(np.mean(series))
    return dict(train), dict(val)


def plot_curves(train: dict, val: dict) -> Figure:
    """Losses on the left, the learning rate below them, validation metrics on the right."""
    figure = Figure(figsize=(11, 6), layout='constrained')
    grid = figure.add_gridspec(2, 2, height_ratios=[3, 1])
    losses, rates, metrics = (figure.add_subplot(grid[at]) for at in ((0, 0), (1, 0), (slice(None), 1)))
    for name in sorted(train, key=lambda name: (name != 'loss', name)):
        if name.startswith('loss'):
            _line(losses, train[name], name, linewidth=2.5 if name == 'loss' else 1.2)
    losses.set(title='training loss', xlabel='epoch', ylabel='loss', ylim=(0, None))
    _line(rates, train.get('lr', {}), 'learning rate')
    rates.set(xlabel='epoch', ylabel='learning rate', ylim=(0, None))
    for name in ('segm_mAP_50', 'segm_mAP', 'bbox_mAP_50', 'bbox_mAP'):
        _line(metrics, val.get(f'coco/{name}', {}), name, linestyle='-' if 'segm' in name else '--')
    metrics.set(title='validation', xlabel='epoch', ylabel='average precision', ylim=(0, 1))
    for axes in (losses, metrics):
        if axes.lines:
            axes.legend(fontsize='small')
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    return figure


def _line(axes: Axes, series: dict, label: str, **style) -> None:
    if series:
        epochs = sorted(series)
        axes.plot(epochs, [series[epoch] for epoch in epochs], marker='.', label=label, **style)
