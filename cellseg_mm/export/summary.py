"""Counts, densities and class fractions of each image and of all images."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from cellseg_mm.utils import write_atomically, write_json


def summarise_counts(counts: Sequence, classes: Sequence, megapixels: float, mm2: float | None) -> dict:
    """Counts of cells, with their densities and fractions.

    Args:
        counts (Sequence[int]): Cells of each of the C classes.
        classes (Sequence[str]): Names of the C classes.
        megapixels (float): Area of the image, background included, in 10^6 px.
        mm2 (float | None): The same in square millimetres, None if the pixel size is unknown.

    Returns:
        dict: megapixels, mm2, cells, cells_per_megapixel, cells_per_mm2; and classes, by name cells,
        cells_per_megapixel, cells_per_mm2 and fraction of all cells. None stands for an unknown value, and for a
        fraction where there are no cells.
    """

    def densities(count: int) -> dict:
        return dict(cells=count, cells_per_megapixel=count / megapixels, cells_per_mm2=mm2 and count / mm2)

    total = sum(counts)
    by_class = {
        name: dict(densities(count), fraction=count / total if total else None)
        for name, count in zip(classes, counts, strict=True)
    }
    return dict(megapixels=megapixels, mm2=mm2, **densities(total), classes=by_class)


def write_summary(summaries: dict, out_dir: Path) -> dict:
    """Write ``summary.json`` and ``summary.csv``: a row for each file, and a last one, ``overall``, for all together.

    Args:
        summaries (dict[str, dict]): The result of :func:`summarise_counts` for each file, at least one; all with the
            same classes.
        out_dir (Path): Folder of the two files.

    Returns:
        dict: The overall summary. Densities are those of all cells over the area of all images; mm2 is None if the
        pixel size of an image is unknown.
    """
    classes = list(next(iter(summaries.values()))['classes'])
    counts = [sum(summary['classes'][name]['cells'] for summary in summaries.values()) for name in classes]
    areas = [summary['mm2'] for summary in summaries.values()]
    megapixels = sum(summary['megapixels'] for summary in summaries.values())
    overall = summarise_counts(counts, classes, megapixels, None if None in areas else sum(areas))
    write_json(out_dir / 'summary.json', dict(files=summaries, overall=overall))
    text = io.StringIO()
    rows = csv.writer(text)
    for index, (name, summary) in enumerate([*summaries.items(), ('overall', overall)]):
        row = {key: value for key, value in summary.items() if key != 'classes'}
        for label, entry in summary['classes'].items():
            row.update({f'{label}_{key}': value for key, value in entry.items()})
        if not index:
            rows.writerow(['file', *row])
        rows.writerow([name, *row.values()])
    write_atomically(out_dir / 'summary.csv', text.getvalue())
    return overall
