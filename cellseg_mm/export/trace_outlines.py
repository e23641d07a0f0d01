"""Masks as polygons on pixel edges."""

import numpy as np
import shapely

from cellseg_mm.structures import Cells, Runs


def trace_outlines(cells: Cells) -> np.ndarray:
    """The outline of each cell along the edges of its pixels; it covers exactly these pixels.

    Pixel (x, y) is the square from (x, y) to (x + 1, y + 1). Where pixels touch only at a corner the outline has
    several parts, because polygons must be valid.

    Args:
        cells (Cells): N cells.

    Returns:
        ndarray: (N,) valid shapely geometries: a Polygon, with holes if the mask has some, or a MultiPolygon if it
        has several parts; None for a cell without a pixel. Outer rings run counterclockwise in (x, y), inner ones
        clockwise (RFC 7946, section 3.1.6).
    """
    runs = cells.runs.split_at_columns(cells.height)
    edges, owner = _boundary_edges(runs, cells.height, cells.width)
    lines = np.full(len(cells), shapely.MultiLineString())
    shapely.multilinestrings(shapely.linestrings(edges), indices=owner, out=lines)
    faces, owner = shapely.get_parts(shapely.polygonize(lines[:, None]), return_index=True)
    # a face is a part of the mask or a hole: look at the pixel at its least corner, the first of a normal ring
    rings = shapely.get_exterior_ring(shapely.normalize(faces))
    x, y = shapely.get_coordinates(shapely.get_point(rings, 0)).astype(np.int64).T
    place, size = x * cells.height + y, cells.height * cells.width
    last = np.searchsorted(runs.owner * size + runs.start, owner * size + place, side='right') - 1
    is_part = (last >= 0) & (runs.owner[last] == owner) & (place < runs.start[last] + runs.length[last])
    parts, owner = shapely.orient_polygons(faces[is_part]), owner[is_part]
    outlines = np.full(len(cells), None)
    shapely.multipolygons(parts, indices=owner, out=outlines)
    single = np.bincount(owner, minlength=len(cells)) == 1
    outlines[single] = shapely.get_geometry(outlines[single], 0)
    return outlines


def _boundary_edges(runs: Runs, height: int, width: int) -> tuple:
    """The straight edges of the boundaries of masks, cut at each corner.

    To the second difference of a mask, in x and y, a pixel adds 1 at its upper left and lower right corner and -1 at
    the other two. The sum is not 0 only at the corners of the boundary, and its cumulative sum along a row or column of
    corners is not 0 only between the two ends of each edge.

    Args:
        runs (Runs): Runs that stay within columns.
        height (int): Of the image, in px.
        width (int): Of the image, in px.

    Returns:
        tuple: (E, 2, 2) int64 ends (x, y) of the edges, ordered by instance, and (E,) int64 instance of each edge.
    """
    x, y = np.divmod(runs.start, height)
    left_top = (runs.owner * (width + 1) + x) * (height + 1) + y
    corners = np.concatenate([left_top + dx * (height + 1) + dy for dx in (0, 1) for dy in (0, runs.length)])
    corners, index = np.unique(corners, return_inverse=True)
    difference = np.bincount(index, np.repeat([1, -1, -1, 1], len(x)))
    corners, difference = corners[difference != 0], difference[difference != 0]
    columns, y = np.divmod(corners, height + 1)
    owner, x = np.divmod(columns, width + 1)
    points = np.stack([x, y], axis=1)
    edges, owners = [], []
    for order in (slice(None), np.lexsort((x, y, owner))):
        begin = np.flatnonzero(np.cumsum(difference[order]))
        edges.append(np.stack([points[order][begin], points[order][begin + 1]], axis=1))
        owners.append(owner[order][begin])
    owners = np.concatenate(owners)
    order = np.argsort(owners, kind='stable')
    return np.concatenate(edges)[order], owners[order]
