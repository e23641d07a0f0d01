"""Which outlines are regions around cells, judged by what they enclose and not by their names.

A file marks its cells by a class, a kind or a flag, and people use these marks for other things too: the rectangle of
the annotated field is an annotation like its cells, or has a class to ignore. Therefore an outline that encloses cells
is a region, and a class is judged over the whole data set.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cellseg_mm.structures import Runs, pixels_before

# An outline is a region if it encloses so many others, each of at most a quarter of its area: a cell may hold a nucleus
# or two. If it is MIN_RATIO_AROUND_ONE times larger than all of these, one is enough.
MIN_ENCLOSED = 3
MIN_RATIO = 4
MIN_RATIO_AROUND_ONE = 25
# Share of the pixels of an enclosed outline that are inside.
MIN_INSIDE = 0.9
# A region to ignore that encloses this share of its image's cells is the annotated field.
MAX_SHARE_IGNORED = 0.5
# Words in the names of classes that are really to be ignored.
IGNORE_WORDS = ('ignore', 'exclude', 'artefact', 'artifact', 'ambiguous')

FIELD_NOTE = 'regions to ignore that enclose cells: the field that was annotated, not ignored'
REGION_NOTE = 'outlines of regions and not of cells, for they enclose cells or are of a class that does: left out'
CELLS_IGNORED_NOTE = 'cells inside regions to ignore'


class Contents(NamedTuple):
    """The N outlines of one image.

    Attributes:
        names: N names of classes, or of other groups that are judged together.
        is_ignored: (N,) bool, whether the file marks them as regions to ignore.
        areas: (N,) int64 px.
        enclosed: (N,) int64, how many others each encloses if it is a region; 0 for cells.
    """

    names: list
    is_ignored: np.ndarray
    areas: np.ndarray
    enclosed: np.ndarray


class RegionRules(NamedTuple):
    """What a whole data set says about its regions.

    Attributes:
        classes: Names of the classes of regions.
        least_area: Area in px from which an outline is a region even if it encloses nothing; infinite in a data set
            without regions.
        cell_area: Median area in px of the outlines that are not regions.
    """

    classes: frozenset = frozenset()
    least_area: float = np.inf
    cell_area: float = 0


NO_RULES = RegionRules()


def is_starred(name: str) -> bool:
    """Whether a class is one to ignore by the star at its end, as in QuPath."""
    return name.endswith('*')


def look_inside(runs: Runs, names: Sequence, is_ignored: Sequence, may_enclose: Sequence, height: int) -> Contents:
    """What the N outlines of an image enclose.

    Args:
        runs (Runs): Of the N outlines.
        names (Sequence[str]): N class names.
        is_ignored (Sequence[bool]): N times whether the outline is marked as a region to ignore.
        may_enclose (Sequence[bool]): N times whether the outline can be a region.
        height (int): Of the image in px.
    """
    count = len(names)
    areas, boxes = runs.areas(count), runs.boxes(count, height)
    ignored, enclosed = np.array(is_ignored, bool), np.zeros(count, np.int64)
    for index in np.flatnonzero(np.array(may_enclose, bool) & (areas >= MIN_RATIO)):
        inside = (areas > 0) & (areas * MIN_RATIO <= areas[index]) & ~ignored
        inside &= (boxes[:, :2] >= boxes[index, :2] - 1).all(axis=1) & (boxes[:, 2:] <= boxes[index, 2:] + 1).all(
            axis=1
        )
        if not inside.any():
            continue
        inside &= _overlap(runs, index, inside) >= MIN_INSIDE * areas
        around = areas[inside]
        is_much_larger = len(around) and areas[index] >= MIN_RATIO_AROUND_ONE * around.max()
        if len(around) >= MIN_ENCLOSED or is_much_larger:
            enclosed[index] = len(around)
    return Contents(list(names), ignored, areas, enclosed)


def _overlap(runs: Runs, index: int, chosen: np.ndarray) -> np.ndarray:
    """(N,) number of pixels that each chosen outline, (N,) bool, shares with the outline at ``index``."""
    own = runs.select(np.array([index]), len(chosen))
    owner, start, length = (part[chosen[runs.owner]] for part in runs)
    shared = pixels_before(own, start + length) - pixels_before(own, start)
    return np.bincount(owner, shared, len(chosen)).astype(np.int64)


def find_rules(images: Sequence) -> RegionRules:
    """The rules of a data set.

    A class is one of regions if more than half of its outlines are regions. For a class to ignore, whose name ends with
    ``*``, one region is enough, unless its name has one of :data:`IGNORE_WORDS`; QuPath's ``Region*`` always is one.

    Args:
        images (Sequence[Contents]): The outlines of each image.
    """
    total, regions, cells = defaultdict(int), defaultdict(int), []
    for image in images:
        for name, number in zip(image.names, image.enclosed.tolist(), strict=True):
            total[name] += 1
            regions[name] += number > 0
        cells.append(image.areas[(image.enclosed == 0) & ~image.is_ignored & (image.areas > 0)])
    areas = np.concatenate(cells) if cells else np.zeros(0)
    cell_area = float(np.median(areas)) if len(areas) else 0.0
    classes = frozenset(name for name in total if _is_region_class(name, total[name], regions[name]))
    has_regions = any((image.enclosed[~image.is_ignored] > 0).any() for image in images)
    return RegionRules(classes, MIN_RATIO_AROUND_ONE * cell_area if has_regions else np.inf, cell_area)


def _is_region_class(name: str, total: int, regions: int) -> bool:
    bare = name.casefold()
    if is_starred(bare) and not any(word in bare for word in IGNORE_WORDS):
        return regions > 0 or re.search(r'\bregion', bare) is not None
    return regions > total / 2


def find_regions(image: Contents, rules: RegionRules) -> np.ndarray:
    """(N,) bool, which outlines of an image are regions around cells; the others are cells or really ignored.

    A region to ignore counts as one if its class is one of regions, or if it encloses half of the image's cells and at
    least :data:`MIN_ENCLOSED`.
    """
    of_class = np.array([name in rules.classes for name in image.names], bool)
    cells = np.count_nonzero(~image.is_ignored & (image.enclosed == 0))
    is_field = (image.enclosed >= MIN_ENCLOSED) & (image.enclosed >= MAX_SHARE_IGNORED * cells)
    is_region = (image.enclosed > 0) | (image.areas >= rules.least_area)
    return of_class | np.where(image.is_ignored, is_field, is_region)


def region_notes(image: Contents, is_region: np.ndarray) -> dict:
    """Notes on the regions of an image, each with a count."""
    really_ignored = image.is_ignored & ~is_region
    return {
        FIELD_NOTE: int(np.count_nonzero(is_region & image.is_ignored)),
        REGION_NOTE: int(np.count_nonzero(is_region & ~image.is_ignored)),
        CELLS_IGNORED_NOTE: int(image.enclosed[really_ignored].sum()),
    }
