"""From a stream of an image's cells to files in one pass."""

import contextlib
import importlib.util
import itertools
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cellseg_mm.structures import Cells
from cellseg_mm.utils import UserError

from .anndata import AnnDataWriter
from .coco import COCOWriter
from .geojson import GeoJSONWriter
from .geoparquet import GeoParquetWriter
from .label_image import LabelImageWriter
from .measurements import measure_cells
from .output_files import check_replaceable, move_outputs
from .overlay import OverlayWriter
from .overview import OverviewWriter
from .slide_page import SlidePageWriter
from .summary import summarise_counts
from .table import TableWriter
from .writer import Part

# Writers by the format's name, see :class:`.writer.Writer`.
FORMATS = dict(
    overlay=OverlayWriter,
    labels=LabelImageWriter,
    coco=COCOWriter,
    geojson=GeoJSONWriter,
    csv=TableWriter,
    overview=OverviewWriter,
    geoparquet=GeoParquetWriter,
    anndata=AnnDataWriter,
    slide=SlidePageWriter,
)


def check_formats(formats: Sequence) -> None:
    """Raise :class:`UserError` for an unknown format, or one whose optional package is not installed."""
    for name in formats:
        if name not in FORMATS:
            raise UserError(f'unknown format {name!r}: choose from {", ".join(FORMATS)}')
        needs = FORMATS[name].needs
        if needs and not importlib.util.find_spec(needs):
            raise UserError(f'format {name}: needs the package {needs}; run `make setup EXTRAS=tables` first')


def check_outputs(out_dir: Path, stem: str, formats: Sequence) -> None:
    """Raise :class:`UserError` if a folder that was not written here lies where :func:`export_cells` would write."""
    check_replaceable([Path(out_dir) / f'{stem}{ending}' for name in formats for ending in FORMATS[name].endings])


def export_cells(
    stream: Iterable,
    source: object,
    out_dir: Path,
    stem: str,
    formats: Sequence,
    classes: Sequence,
) -> dict:
    """Measure an image's cells and write them in several formats, part by part.

    Cells are numbered from 1 in the order of the stream, the same in all formats; cells without a pixel are left out.
    Either all files appear at the end, or none. Memory holds one part, whatever the image's size.

    Args:
        stream (Iterable[Cells]): The parts.
        source (object): The image, see :func:`measure_cells`, with ``height``, ``width``, ``pixel_size`` and ``name``
            (of its file).
        out_dir (Path): Folder, made if absent; files of the same names are replaced.
        stem (str): Beginning of the files' names.
        formats (Sequence[str]): Of :data:`FORMATS`.
        classes (Sequence[str]): Names of the C classes.

    Returns:
        dict: See :func:`summarise_counts`.

    Raises:
        UserError: See :func:`check_formats` and :func:`check_outputs`.
    """
    check_formats(formats)
    check_outputs(out_dir, stem, formats)
    measured = any(FORMATS[name].measured for name in formats)
    # a part without cells goes first, so that writers know the measurements even if the stream is empty
    empty = Cells.from_codes([], [], [], source.height, source.width)
    counts = np.zeros(len(classes), np.int64)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{stem}.', suffix='.partial', dir=out_dir) as partial:
        folder, earlier = (Path(partial) / name for name in ('new', 'earlier'))
        folder.mkdir()
        earlier.mkdir()
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(FORMATS[name](folder, stem, source, classes)) for name in formats]
            for cells in itertools.chain([empty], stream):
                cells = cells.select(cells.areas() > 0)
                part = Part(cells, measure_cells(cells, source, source.pixel_size) if measured else {})
                for writer in writers:
                    writer.write(part)
                counts += np.bincount(cells.labels, minlength=len(classes))
        move_outputs(folder, out_dir, earlier)
    pixels = source.height * source.width
    mm2 = pixels * source.pixel_size**2 / 1e6 if source.pixel_size else None
    return summarise_counts(counts.tolist(), classes, pixels / 1e6, mm2)
