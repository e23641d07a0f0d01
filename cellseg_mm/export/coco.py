"""Cells as a COCO data set."""

import json
from collections.abc import Sequence
from pathlib import Path

from cellseg_mm.utils import printable

from .writer import JSONListWriter, Part


class COCOWriter(JSONListWriter):
    """``STEM_coco.json``: a COCO data set of one image.

    It is a whole data set and not a bare list of results, so ``pycocotools.coco.COCO`` and annotation tools open it
    without another file. Each annotation has a ``score``, so the list under ``annotations`` is also a list of results.
    Masks are run-length codes, boxes [x, y, w, h] in px. An annotation's id is the cell's number in all formats, a
    category's id is class index + 1, and ``file_name`` is the name of the image's file, or the stem if it is empty.
    """

    endings = ('_coco.json',)

    def __init__(self, folder: Path, stem: str, source: object, classes: Sequence) -> None:
        file_name = printable(source.name) or stem
        image = dict(id=1, file_name=file_name, height=source.height, width=source.width)
        categories = [dict(id=number, name=name) for number, name in enumerate(classes, start=1)]
        head = json.dumps(dict(images=[image], categories=categories))
        self._open(folder / f'{stem}_coco.json', f'{head[:-1]}, "annotations": [')

    def write(self, part: Part) -> None:
        """Add an annotation for each cell."""
        cells = part.cells
        boxes = cells.boxes()
        boxes[:, 2:] -= boxes[:, :2]
        columns = [cells.labels + 1, boxes, cells.areas(), cells.scores]
        for label, box, area, score, code in zip(*(column.tolist() for column in columns), cells.codes(), strict=True):
            annotation = dict(id=self._count + 1, image_id=1, category_id=label, bbox=box, area=area, iscrowd=0)
            annotation.update(segmentation=code, score=score)
            self._add(json.dumps(annotation))
