"""Cells as a COCO data set."""

import json
from collections.abc import Sequence
from pathlib import Path

from cellseg_mm.structures import Cells
from cellseg_mm.utils import printable


class COCOWriter:
    """``STEM_coco.json``: a COCO data set of one image, annotations written as they come.

    A whole data set and not the bare list of results: it says what its ids mean, so that ``pycocotools.coco.COCO`` and
    annotation tools open it alone. Each annotation has a ``score``, so that the list under ``annotations`` is a list of
    results as well. Masks are run-length codes, boxes [x, y, w, h] in px; an annotation's id is the cell's number in
    all formats, a category's is class index + 1, and ``file_name`` is the name of the image's file.

    Args:
        folder (Path): Where the file is made.
        stem (str): Its name without the ending.
        source (object): The image, with ``height``, ``width`` and ``name``; the stem is taken where the name is empty.
        classes (Sequence[str]): Names of the C classes.
    """

    endings = ('_coco.json',)
    measured = False

    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None:
        self._count = 0
        file_name = printable(source.name) or stem
        image = dict(id=1, file_name=file_name, height=source.height, width=source.width)
        categories = [dict(id=number, name=name) for number, name in enumerate(classes, start=1)]
        self._file = open(folder / f'{stem}_coco.json', 'w', encoding='utf-8')  # noqa: SIM115
        head = json.dumps(dict(images=[image], categories=categories))
        self._file.write(f'{head[:-1]}, "annotations": [')

    def write(self, cells: Cells, measurements: dict) -> None:
        """Add N cells; what was measured of them is not used."""
        boxes = cells.boxes()
        boxes[:, 2:] -= boxes[:, :2]
        columns = [cells.labels + 1, boxes, cells.runs.areas(len(cells)), cells.scores]
        for label, box, area, score, code in zip(*(column.tolist() for column in columns), cells.codes(), strict=True):
            self._count += 1
            annotation = dict(id=self._count, image_id=1, category_id=label, bbox=box, area=area, iscrowd=0)
            annotation.update(segmentation=code, score=score)
            self._file.write(f'{"," if self._count > 1 else ""}\n{json.dumps(annotation)}')

    def __enter__(self) -> 'COCOWriter':
        return self

    def __exit__(self, *error: object) -> None:
        with self._file:
            self._file.write('\n]}\n')
