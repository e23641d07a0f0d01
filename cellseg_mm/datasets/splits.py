"""Splits of whole images: from a table, or drawn and stratified by the classes of their cells."""

import re
from pathlib import Path

import numpy as np

from cellseg_mm.utils import UserError, read_table

SPLITS = ('train', 'val', 'test')
NUM_CANDIDATES = 1000
TCGA_PATIENT = re.compile(r'TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}', re.IGNORECASE)
# Numbers, with or without x or y before them, and text in brackets: the place of a tile in a slide.
TILE_ENDING = re.compile(r'(?:\s*[\[(][^\])]*[\])]|[\s_-]+[xy]?=?\d+)+$', re.IGNORECASE)


def read_splits(path: Path) -> dict:
    """The split of each image by its name, from a CSV table with the columns ``name`` and ``split``, and maybe others.

    Args:
        path (Path): Its file; names are without endings.

    Returns:
        dict[str, str]: Name to split, one of :data:`SPLITS`.

    Raises:
        UserError: See :func:`read_table`; or if it has another split, or names an image twice.
    """
    found = {}
    for row in read_table(path, 'name', 'split'):
        name, split = row['name'], row['split']
        if split not in SPLITS:
            raise UserError(f'{path}: {name}: the split is {split!r}; choose from {", ".join(SPLITS)}')
        if name in found:
            raise UserError(f'{path}: the image {name} has two rows')
        found[name] = split
    return found


def patient_of(name: str) -> str:
    """The patient or slide in a file name without its ending.

    For a barcode of The Cancer Genome Atlas, its first three fields, which name the patient; otherwise the name without
    the numbers and brackets at its end: ``slide7_x512_y0``, ``slide7-3`` and ``slide7 [x=0,y=512]`` are
    all of ``slide7``.
    """
    barcode = TCGA_PATIENT.search(name)
    return barcode[0].upper() if barcode else TILE_ENDING.sub('', name) or name


def group_names(names: list, rule: str) -> list:
    """The group of each image by its name.

    Args:
        names (list[str]): Without endings.
        rule (str): ``'patient'``, see :func:`patient_of`, or a regular expression. Its first group, or without groups
            the whole match, is the image's group.

    Raises:
        UserError: If it is not a regular expression, or a name does not match, or only with an empty group.
    """
    if rule == 'patient':
        return [patient_of(name) for name in names]
    try:
        matches = [re.search(rule, name) for name in names]
    except re.error as error:
        raise UserError(f'--groups {rule}: not a regular expression ({error})') from error
    found = [match and (match[1] if match.re.groups else match[0]) for match in matches]
    if not all(found):
        wrong = next(index for index, group in enumerate(found) if not group)
        reason = 'finds no group in' if matches[wrong] else 'does not match'
        raise UserError(f'--groups {rule}: {reason} the name {names[wrong]}')
    return found


def stratified_split(counts: np.ndarray, val_fraction: float, seed: int, groups: list | None = None) -> np.ndarray:
    """Which images to validate on: of 1,000 random choices, the one whose class shares are most even.

    Args:
        counts (ndarray): (N, C) cells of each image and class.
        val_fraction (float): Share of the images, above 0 and below 1; at least one image stays on each side.
        seed (int): Equal seeds, counts and groups give equal splits.
        groups (list[str] | None): The group of each image; images of a group stay together. If None, each is its own.

    Returns:
        ndarray: (N,) bool, True for validation.

    Raises:
        UserError: For a single group.
    """
    num_images = len(counts)
    num_val = int(np.clip(round(num_images * val_fraction), 1, num_images - 1))
    names, group = np.unique(np.arange(num_images) if groups is None else groups, return_inverse=True)
    if len(names) < 2:
        raise UserError(f'all {num_images} training images belong to the group {names[0]}; see --groups')
    sizes = np.bincount(group)
    cells = np.zeros((len(names), counts.shape[1]))
    np.add.at(cells, group, counts)
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(len(names)), (NUM_CANDIDATES, 1)), axis=1)
    # the first groups of each order, as many as come nearest to the number of images
    taken = np.abs(np.cumsum(sizes[order[:, :-1]], axis=1) - num_val).argmin(axis=1)
    selected = np.argsort(order, axis=1) <= taken[:, None]
    shares = selected @ cells / np.maximum(cells.sum(axis=0), 1)
    present = cells.sum(axis=0) > 0
    deviation = np.abs(shares - num_val / num_images)[:, present].max(axis=1, initial=0)
    return selected[deviation.argmin()][group]
