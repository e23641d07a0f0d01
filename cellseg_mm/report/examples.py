"""Best, typical and worst test images: ground truth beside the predictions of each run, as outlines over the image."""

from collections import Counter

import numpy as np

from cellseg_mm.evaluation.error_analysis import MISSED, error_kinds, scene_codes
from cellseg_mm.visualization.colors import KIND_COLORS

from .pictures import outline_path, photo_source
from .run import Scored

# Number of images of each kind.
NUM_IMAGES = 3
# Longer side of an image in the page, in px.
MAX_SIDE = 1000
# Images and outlines beyond this number of characters are left out, so that a page stays below about 10 MB.
MAX_CHARACTERS = 8_000_000


def choose_examples(runs: list) -> tuple:
    """Examples by class-agnostic PQ, mean over the runs that were tested on the same images.

    Typical images lie nearest to the median. Images without a file are left out, and images that would make the page
    too large.

    Args:
        runs (list[Run]): The runs; those without predictions are skipped.

    Returns:
        tuple: Lists of :func:`draw_example` by ``worst``, ``typical`` and ``best``; and sentences about what is left
        out.
    """
    groups = {}
    for run in runs:
        if run.scored:
            groups.setdefault(tuple(image['name'] for image in run.scored.errors['images']), []).append(run)
    examples, notes, characters = dict(worst=[], typical=[], best=[]), [], 0
    for names, group in groups.items():
        quality = [[image['pq'] for image in run.scored.errors['images']] for run in group]
        for kind, index in rank(np.array(quality, np.float64).mean(axis=0)):
            path = group[0].scored.images / names[index]
            source = photo_source(path, MAX_SIDE)
            if source is None:
                notes.append(f'Left out of the {kind} images: {path}, which cannot be read.')
                continue
            example = draw_example(group, index)
            cells = [cell for panel in example['panels'] for cell in panel['cells']]
            characters += len(source) + sum(len(cell['path']) + len(cell['title']) + 60 for cell in cells)
            if characters > MAX_CHARACTERS:
                return examples, [*notes, 'Further images are left out, because the page would be too large.']
            examples[kind].append(dict(example, source=source))
    return examples, notes


def rank(quality: np.ndarray, count: int = NUM_IMAGES) -> list:
    """The worst images, the best, and the typical ones, which lie nearest to the median; each image once.

    Args:
        quality (ndarray): (I,) quality of each image, nan if undefined.
        count (int): Images of each kind, if there are enough.

    Returns:
        list[tuple]: ``'worst'``, ``'best'`` or ``'typical'`` in turn, and the index of the image.
    """
    order = np.argsort(quality, kind='stable')[: np.count_nonzero(~np.isnan(quality))].tolist()
    typical = sorted(order, key=lambda index: abs(quality[index] - np.nanmedian(quality)))
    chosen = {}
    for _ in range(count):
        for kind, queue in (('worst', order), ('best', order[::-1]), ('typical', typical)):
            index = next((index for index in queue if index not in chosen), None)
            if index is not None:
                chosen[index] = kind
    return [(kind, index) for index, kind in chosen.items()]


def draw_example(group: list, index: int) -> dict:
    """The cells of an image, as outlines.

    Args:
        group (list[Run]): Runs that were tested on the same images.
        index (int): Of the image.

    Returns:
        dict: ``name``, ``width`` and ``height`` of the image in px; and ``panels`` of the ground truth and of each run:
        ``title``, ``pq``, ``counts`` (by kind of :data:`KIND_COLORS`; both empty for the ground truth) and ``cells``,
        each with ``path`` (see :func:`outline_path`), ``label``, ``kind`` and ``title``. A run's cells are the
        predicted and the missed ones.
    """
    panels = []
    for run in group:
        actual, found = _outlines(run.scored, index)
        if not panels:
            shown = [dict(cell, kind='', title=cell['name']) for cell in actual]
            panels.append(dict(title='ground truth', pq=None, counts={}, cells=shown))
        cells = [*found, *(cell for cell in actual if cell['kind'] == MISSED)]
        counts = Counter(cell['kind'] for cell in cells)
        panels.append(
            dict(
                title='predicted' if len(group) == 1 else run.name,
                pq=run.scored.errors['images'][index]['pq'],
                counts={kind: counts[kind] for kind in KIND_COLORS},
                cells=cells,
            )
        )
    image = group[0].scored.parts[index][0]['images'][0]
    return dict(name=image['file_name'], width=image['width'], height=image['height'], panels=panels)


def _outlines(scored: Scored, index: int) -> tuple:
    """Ground truth and predictions above the score threshold, a dict for each cell."""
    classes = scored.errors['classes']
    scene = scored.scenes[index].above(scored.errors['score_thr'])
    gt_codes, codes = scene_codes(*scored.parts[index])
    gt_kinds, kinds = error_kinds(scene)

    def outline(code: dict, label: int, kind: str, *score: float) -> dict:
        details = [classes[label], *(f'score {value:.2f}' for value in score), kind]
        return dict(path=outline_path(code), label=label, name=classes[label], kind=kind, title=', '.join(details))

    actual = [outline(*cell) for cell in zip(gt_codes, scene.gt_labels.tolist(), gt_kinds, strict=True)]
    codes = codes[: len(kinds)]  # in descending order of scores
    found = [outline(*cell) for cell in zip(codes, scene.labels.tolist(), kinds, scene.scores.tolist(), strict=True)]
    return actual, found
