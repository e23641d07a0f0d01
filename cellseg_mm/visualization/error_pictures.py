"""Plots and pictures of errors: confusion matrix, precision over recall, and ground truth beside predictions."""

import numpy as np
from matplotlib.figure import Figure
from pycocotools import mask as mask_utils

from cellseg_mm.evaluation.error_analysis import CORRECT, MISSED, SPURIOUS

from .colors import KIND_COLORS
from .draw import add_caption, draw_outlines

# The share of grey in the image, and the share of its kind's colour in a wrong cell.
GREYED = 0.7
TINT = 0.35
# An image is enlarged a whole number of times, up to this many px of its longer side.
DRAWN_SIDE = 1024
# Width of the legend's longest entry in px.
MIN_WIDTH = 240


def plot_confusion_matrix(report: dict) -> Figure:
    """Plot the confusion matrix with its counts, shaded by the share of the row.

    Args:
        report (dict): From :func:`cellseg_mm.evaluation.error_analysis.analyze_errors`.
    """
    matrix, classes = np.array(report['confusion_matrix']), report['classes']
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.8 * len(matrix)
    figure = Figure(figsize=(side + 1.2, side), layout='constrained')
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        if (row, column) != (len(classes), len(classes)):
            color = 'white' if shares[row, column] > 0.5 else 'black'
            text = f'{count:,}\n{shares[row, column]:.0%}'
            axes.text(column, row, text, ha='center', va='center', color=color, fontsize='small')
    ticks = range(len(matrix))
    axes.set_xticks(ticks, [*classes, MISSED], rotation=45, ha='right')
    axes.set_yticks(ticks, [*classes, SPURIOUS])
    axes.set(
        xlabel='predicted', ylabel='ground truth', title=f'mask IoU above 0.5, score at least {report["score_thr"]}'
    )
    figure.colorbar(picture, ax=axes, label='share of the row', shrink=0.8)
    return figure


def plot_precision_recall(report: dict) -> Figure:
    """Plot precision over recall at mask IoU 0.5, a line for each class, with a dot at the score threshold.

    Args:
        report (dict): From :func:`cellseg_mm.evaluation.error_analysis.analyze_errors`.
    """
    figure = Figure(figsize=(6.5, 5.5), layout='constrained')
    axes = figure.add_subplot()
    for index, (entry, curve) in enumerate(zip(report['by_class'], report['precision_at_recall'], strict=True)):
        if curve is None:
            continue
        label = f'{entry["name"]}: AP50 {entry["AP50"]:.3f}'
        axes.plot(np.linspace(0, 1, len(curve)), curve, color=f'C{index}', label=label)
        if entry['precision'] is not None:
            axes.plot(entry['recall'], entry['precision'], 'o', color=f'C{index}', markeredgecolor='black')
    axes.plot([], [], 'o', color='white', markeredgecolor='black', label=f'score at least {report["score_thr"]}')
    axes.set(title='masks at IoU 0.5', xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc='lower left')
    return figure


def draw_errors(image: np.ndarray, gt_codes: list, gt_kinds: np.ndarray, codes: list, kinds: np.ndarray) -> np.ndarray:
    """Draw ground truth on the left and predictions on the right, outlined by the kind of error; errors are tinted too.

    Args:
        image (ndarray): (H, W, 3) uint8 RGB.
        gt_codes (list[dict]): G run-length codes of the ground truth.
        gt_kinds (ndarray): (G,) keys of :data:`KIND_COLORS`.
        codes (list[dict]): P run-length codes of the predictions.
        kinds (ndarray): (P,) keys of :data:`KIND_COLORS`.

    Returns:
        ndarray: (H', W', 3) uint8 RGB; small images are enlarged a whole number of times.
    """
    left = _draw_side(image, 'ground truth', gt_codes, gt_kinds, SPURIOUS)
    right = _draw_side(image, 'predicted', codes, kinds, MISSED)
    height = max(len(left), len(right))
    padded = [np.pad(side, ((0, height - len(side)), (0, 8), (0, 0)), constant_values=255) for side in (left, right)]
    return np.hstack(padded)


def _draw_side(image: np.ndarray, title: str, codes: list, kinds: np.ndarray, other: str) -> np.ndarray:
    """Draw one side with its legend, without the kind of error that only the ``other`` side has."""
    canvas = GREYED * image.mean(axis=2, keepdims=True) + (1 - GREYED) * image
    for kind, color in KIND_COLORS.items():
        chosen = [codes[index] for index in np.flatnonzero(kinds == kind)]
        if chosen and kind != CORRECT:
            inside = mask_utils.decode(mask_utils.merge(chosen)) > 0
            canvas[inside] = TINT * np.array(color) + (1 - TINT) * canvas[inside]
    order = np.argsort(kinds != CORRECT, kind='stable')  # errors on top
    masks = (codes[index] for index in order)
    scale = max(1, DRAWN_SIDE // max(image.shape[:2]))
    drawn = draw_outlines(canvas.astype(np.uint8), masks, [KIND_COLORS[kind] for kind in kinds[order]], scale)
    drawn = np.pad(drawn, ((0, 0), (0, max(0, MIN_WIDTH - drawn.shape[1])), (0, 0)), constant_values=255)
    legend = {kind: color for kind, color in KIND_COLORS.items() if kind != other}
    entries = [f'{kind} {np.count_nonzero(kinds == kind)}' for kind in legend]
    return add_caption(drawn, f'{title}: {len(kinds)} cells', entries, list(legend.values()))
