"""From polygons to pixels.

A pixel belongs to a polygon if its centre lies inside: pixel (x, y) is the square from (x, y) to (x + 1, y + 1), as in
QuPath, and its centre is (x + 0.5, y + 0.5). So outlines along pixel edges give back exactly these pixels, a polygon
has as many pixels as its area on average, and polygons that share an edge neither share a pixel nor leave one between
them: a centre on the edge belongs to the right or the lower one.

scikit-image and OpenCV give such a pixel to both sides. pycocotools gives it to one side, but rounds outlines to fifths
of a px first, which changes 3 px of 236 (2,000 random outlines of 12 vertices), and has no holes.

Pixels that a ring encloses more than once are inside too (the nonzero rule), as where outlines drawn by hand end.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cellseg_mm.structures import Runs, lay_runs
from cellseg_mm.utils import UserError

from .regions import NO_RULES, Contents, RegionRules, find_regions, find_rules, look_inside, region_notes
from .sample import Instances, Sample, class_number

# The most cells over one another. More are copies of a cell, and each layer has the size of the image.
MAX_LAYERS = 64
MAX_SIDE = 2**15  # px; of the raster that compares outlines before the image's size is known


def to_ring(points: object, where: str) -> np.ndarray:
    """Vertices as (P, 2) float64 px; other coordinates are dropped.

    Raises:
        UserError: If they are not finite numbers.
    """
    try:
        ring = np.array(points, np.float64)
        ring = ring.reshape(-1, 2) if ring.size == 0 else ring[:, :2]
    except (TypeError, ValueError, IndexError) as error:
        raise UserError(f'{where}: its outline is not a list of points ({error})') from error
    if ring.ndim != 2 or ring.shape[1] != 2 or not np.isfinite(ring).all():
        raise UserError(f'{where}: its outline is not a list of finite points (x, y)')
    return ring


def rasterize(rings: list, owners: list, is_hole: list, height: int, width: int) -> Runs:
    """The pixels of many polygons at once, column by column.

    Along the line through the centres of a column, the directions of the crossing edges are summed up in order; centres
    lie inside where the sum is not 0. The cost grows with the crossings, not with the polygons' area.

    Args:
        rings (list[ndarray]): R rings of (P, 2) float64 (x, y) in px, closed or not. Their direction does not matter.
        owners (list[int]): R indices of the rings' instances; an instance is the union of its rings.
        is_hole (list[bool]): For each ring, whether it is a hole in the others of its instance.
        height (int): Of the image in px; pixels outside are cut off.
        width (int): Of the image in px.

    Returns:
        Runs: Of all instances with a pixel.
    """
    points = np.concatenate([np.zeros((0, 2)), *rings])
    sizes = np.array([len(ring) for ring in rings], np.int64)
    ring = np.repeat(np.arange(len(rings)), sizes)
    ends = np.cumsum(sizes)
    following = np.arange(1, len(points) + 1)
    following[ends[sizes > 0] - 1] = (ends - sizes)[sizes > 0]
    (x1, y1), (x2, y2) = points.T, points[following].T
    area = np.bincount(ring, x1 * y2 - x2 * y1, len(rings))  # of each ring, signed and twice
    turn = np.where(area < 0, -1, 1)  # an eight may have area 0 and still pixels
    direction = (turn * np.where(np.array(is_hole, bool), -1, 1))[ring] * np.where(x1 < x2, 1, -1)
    # from left to right for every ring, so that an edge of two neighbours is rounded the same way
    swap = x1 > x2
    x1, x2, y1, y2 = np.where(swap, x2, x1), np.where(swap, x1, x2), np.where(swap, y2, y1), np.where(swap, y1, y2)

    first, last = (np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64) for x in (x1, x2))
    counts = last - first
    edge = np.repeat(np.arange(len(points)), counts)
    column = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    y = y1[edge] + (column + 0.5 - x1[edge]) / (x2 - x1)[edge] * (y2 - y1)[edge]
    row = np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64)
    owner = np.array(owners, np.int64)[ring[edge]]
    order = np.lexsort((row, column, owner))
    owner, place = owner[order], (column * height + row)[order]
    is_inside = np.cumsum(direction[edge][order])[:-1] != 0  # rings are closed, so the sum is 0 after each column
    length = np.diff(place)
    chosen = np.flatnonzero(is_inside & (length > 0))
    return Runs(owner[chosen], place[chosen], length[chosen])


def lay_instances(runs: Runs, labels: list, is_ignored: list, height: int, width: int) -> Instances:
    """Instances from their runs; those without a pixel are left out, overlapping ones go into further layers.

    Args:
        runs (Runs): Of N instances.
        labels (list[int]): N class numbers.
        is_ignored (list[bool]): N times whether it is an ignored region.
        height (int): Of the image in px.
        width (int): Of the image in px.

    Raises:
        UserError: For more than :data:`MAX_LAYERS` instances over one another, or if most have no pixel in the image.
    """
    count = len(labels)
    kept = np.flatnonzero(runs.areas(count))
    if count and len(kept) <= count / 2:
        none = count - len(kept)
        raise UserError(
            f'{none} of its {count} outlines have no pixel in the image of {width}x{height} px; coordinates must be '
            'in px from its upper left corner'
        )
    try:
        layers = lay_runs(runs.select(kept, count), len(kept), height, width, MAX_LAYERS)
    except ValueError as error:
        raise UserError(str(error)) from error
    return Instances(
        layers, np.array(labels, np.int64)[kept], np.array(is_ignored, bool)[kept], left_out=count - len(kept)
    )


def survey_outlines(found: list, is_ignored: Callable, may_enclose: list | None = None) -> Contents:
    """What the N outlines of a file enclose, whatever the size of its image.

    Args:
        found (list[tuple]): N times (class name, [(ring, is_hole), ...]), see :func:`rasterize`.
        is_ignored (Callable): Whether a class name is one to ignore.
        may_enclose (list[bool] | None): N times whether the outline can be a region; all can if None.
    """
    names = [name for name, _ in found]
    rings, owners, is_hole = _flatten([outline for _, outline in found])
    corner = np.max([ring.max(axis=0) for ring in rings if len(ring)] or [(1, 1)], axis=0)
    width, height = np.clip(np.ceil(corner), 1, MAX_SIDE).astype(int).tolist()
    runs = rasterize(rings, owners, is_hole, height, width)
    return look_inside(runs, names, [is_ignored(name) for name in names], may_enclose or [True] * len(names), height)


def _flatten(outlines: list) -> tuple:
    """All rings, the indices of their outlines, and whether they are holes."""
    rings = [(ring, index, hole) for index, outline in enumerate(outlines) for ring, hole in outline]
    return tuple(map(list, zip(*rings, strict=True))) if rings else ([], [], [])


def instances_from_outlines(cells: list, height: int, width: int, where: str) -> Instances:
    """Instances from outlines.

    Args:
        cells (list[tuple]): N times (class number, ignored or not, [(ring, is_hole), ...]), see :func:`rasterize`.
        height (int): Of the image in px.
        width (int): Of the image in px.
        where (str): The file, for messages.

    Raises:
        UserError: See :func:`lay_instances`.
    """
    rings, owners, is_hole = _flatten([outline for *_, outline in cells])
    labels, is_ignored = [cell[0] for cell in cells], [cell[1] for cell in cells]
    try:
        return lay_instances(rasterize(rings, owners, is_hole, height, width), labels, is_ignored, height, width)
    except UserError as error:
        raise UserError(f'{where}: {error}') from error


@dataclass(frozen=True)
class OutlinesSample(Sample):
    """``source`` is a file of outlines, each with the name of its class; regions around cells are left out.

    Attributes:
        rules: What the data set says about its regions.
    """

    rules: RegionRules = NO_RULES

    def read_outlines(self) -> list:
        """N times (class name, [(ring, is_hole), ...]), see :func:`rasterize`."""
        raise NotImplementedError

    def is_ignored(self, name: str) -> bool:
        """Whether a class is one to ignore."""
        raise NotImplementedError

    def survey(self) -> Contents:
        """What the outlines enclose."""
        return survey_outlines(self.read_outlines(), self.is_ignored)

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the file's order."""
        found, path = self.read_outlines(), str(self.source)
        content = survey_outlines(found, self.is_ignored)
        is_region = find_regions(content, self.rules)
        cells = []
        for index in np.flatnonzero(~is_region):
            (name, outline), ignored = found[index], content.is_ignored[index]
            cells.append((0 if ignored else class_number(name, self.classes, path), ignored, outline))
        return replace(instances_from_outlines(cells, *shape, path), notes=region_notes(content, is_region))


def with_rules(samples: list) -> list:
    """:class:`OutlinesSample` objects that know what their data set says about its regions."""
    rules = find_rules([sample.survey() for sample in samples if sample.source])
    return [replace(sample, rules=rules) for sample in samples]
