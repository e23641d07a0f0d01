"""An image and the cells that the model found in it, and what the page shows of them."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellseg_mm.images import check_pixel_size
from cellseg_mm.inference import CellInferencer
from cellseg_mm.structures import Cells
from cellseg_mm.utils import UserError

LOWEST_SCORE = 0.05  # the lower end of the slider; the model drops cells below it
MAX_PIXELS = 25_000_000


@dataclass(frozen=True)
class Segmented:
    """An image with all cells that the model found in it.

    Attributes:
        name: Name of the file, without the suffix.
        image: (H, W, 3) uint8 RGB.
        source: The image source, for measurements.
        note: How the file was converted and shown to the model, in words.
        cells: Cells of all classes, from :data:`LOWEST_SCORE` up.
        classes: Names of their classes.
        folder: Folder of this visitor's files.
    """

    name: str
    image: np.ndarray
    source: object
    note: str
    cells: Cells
    classes: tuple
    folder: str

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def segment(image: str | Path | object, detector: CellInferencer, folder: Path, pixel_size: str = '') -> Segmented:
    """Run the model on an image; the visitor's own folder is made in ``folder``.

    Args:
        image (str | Path | object): A file, whose channel order the model judges, or a source.
        detector (CellInferencer): The model.
        folder (Path): Folder of all visitors.
        pixel_size (str): Micrometres a px as typed, in place of what the file says; empty keeps that.

    Raises:
        UserError: If the file is not an image, or too large for the page; if the pixel size is invalid.
    """
    source = detector.open(image)
    if pixel_size.strip():
        source.pixel_size = _read_pixel_size(pixel_size)
    if source.height * source.width > MAX_PIXELS:
        raise UserError(
            f'{source.name}: {source.width} x {source.height} px; this page takes at most '
            f'{MAX_PIXELS / 1e6:.0f} megapixels, tools/predict.py takes any size'
        )
    pixels = source.read(0, 0, source.width, source.height)
    note = '. '.join(filter(None, (source.note, detector.describe_size(source))))
    name, classes = Path(source.name).stem, tuple(detector.classes)
    return Segmented(name, pixels, source, note, detector(source), classes, tempfile.mkdtemp(dir=folder))


def _read_pixel_size(text: str) -> float:
    try:
        pixel_size = float(text)
    except ValueError:
        raise UserError(f'invalid pixel size {text.strip()}: give a number of um, such as 0.25') from None
    check_pixel_size(pixel_size)
    return pixel_size


def choose(cells: Cells, labels: Sequence, score_thr: float) -> Cells:
    """The cells of some classes from a score up.

    Args:
        cells (Cells): All cells of an image.
        labels (Sequence[int]): Class indices.
        score_thr (float): 0..1.
    """
    return cells.select(np.isin(cells.labels, np.asarray(labels, np.int64)) & (cells.scores >= score_thr))


def count_rows(cells: Cells, classes: Sequence) -> list:
    """Rows [class, cells, share in percent, mean area in px, mean score] of each class with cells, and of all."""
    areas = cells.areas()
    rows = []
    for name, chosen in [
        *((name, cells.labels == label) for label, name in enumerate(classes)),
        ('all', np.ones(len(cells), bool)),
    ]:
        count = int(chosen.sum())
        if count or name == 'all':
            mean = [round(float(values[chosen].mean()), 2) if count else None for values in (areas, cells.scores)]
            rows.append([name, count, round(100 * count / max(len(cells), 1), 1), *mean])
    return rows
