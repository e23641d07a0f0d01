import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.figure import Figure

from cellseg_mm.evaluation.bootstrap import CONFIDENCE


def plot_ablation(rows: list, runs: dict, metrics: tuple) -> Figure:
    """Plot each seed's metrics by row, and the differences to the row above with their intervals.

    Args:
        rows (list[dict]): From :func:`cellseg_mm.evaluation.summarise`. Values of nan or None are not drawn.
        runs (dict[str, list]): The results behind them.
        metrics (tuple[str]): Names of the metrics to draw.
    """
    figure = Figure(figsize=(4.2 * len(metrics), 6.5), layout='constrained')
    axes = figure.subplots(2, len(metrics), sharey='row', squeeze=False, height_ratios=[3, 2])
    names = [row['row'] for row in rows]
    for column, metric in enumerate(metrics):
        color = colormaps['tab10'](column)
        levels, changes = axes[:, column]
        for place, row in enumerate(rows):
            values = [run['figures'][metric] for run in runs[row['row']]]
            levels.plot([place] * len(values), values, 'o', color=color, alpha=0.5)
            levels.plot([place - 0.25, place + 0.25], [row['figures'][metric]['mean']] * 2, color=color, linewidth=2.5)
            if row['differences']:
                value, low, high = np.array(row['differences'][metric], np.float64)  # None becomes nan
                changes.plot(place, value, 'o', color=color)
                changes.vlines(place, low, high, color=color)  # a percentile interval may lie beside the estimate
        levels.set_title(metric)
        changes.axhline(0, color=rcParams['text.color'], linewidth=1)
        for part in (levels, changes):
            part.set_xlim(-0.5, len(rows) - 0.5)
            part.set_xticks(range(len(names)), names, rotation=20, ha='right')
            part.grid(axis='y', alpha=0.3)
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel('seeds (dots) and their mean')
    axes[1, 0].set_ylabel(f'difference to the row above\n{CONFIDENCE} % interval')
    return figure
