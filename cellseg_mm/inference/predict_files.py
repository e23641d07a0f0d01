"""From image files to files of cells, one after another; a bad file does not stop the others."""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, get_dist_info, is_main_process
from tqdm import tqdm

from cellseg_mm.export import check_outputs, export_cells
from cellseg_mm.images import file_state, open_image
from cellseg_mm.utils import UserError, printable

from .inferencer import CellInferencer
from .ledger import Ledger


@dataclass(frozen=True)
class FilePredictor:
    """Predicts files into a folder: for each file the exports of :func:`export_cells` and, last, ``NAME_summary.json``.

    :class:`Ledger` says what happens to the outputs of an earlier run.

    Args:
        detector (CellInferencer): The model.
        out_dir (Path): The folder. Its ``.tiles`` holds the tiles of unfinished images.
        formats (Sequence[str]): See :func:`export_cells`.
        channel_order (str): Of the files, see :func:`open_image`.
        tiled (bool | None): Whether images are processed in tiles; if None, those that need it.
        tile_options (dict): See :meth:`CellInferencer.stream`.
        resume (bool): Keep what an earlier run with the same settings finished, files and tiles.
    """

    detector: CellInferencer
    out_dir: Path
    formats: Sequence
    channel_order: str = 'rgb'
    tiled: bool | None = None
    tile_options: dict = field(default_factory=dict)
    resume: bool = False

    def predict(self, paths: Sequence, names: Sequence) -> tuple:
        """Predict files; a file that fails gets one line, and the others are processed.

        Several processes, as a launcher starts them, share the files. Files in tiles come last, one by one, and the
        processes share the tiles.

        Args:
            paths (Sequence[Path]): The files.
            names (Sequence[str]): Names of their results, see :func:`output_names`.

        Returns:
            tuple: The summary of each file that did not fail (dict[str, dict], see :func:`summarise_counts`), and the
            number of files that failed.

        Raises:
            UserError: If several processes work on a file together and it fails in one of them.
        """
        rank, world_size = get_dist_info()
        share = list(zip(paths, names, strict=True))[rank::world_size]
        summaries, failed, in_tiles = {}, 0, []
        with tqdm(total=len(share), desc='images', unit='image', disable=not is_main_process()) as progress:
            for path, name in share:
                try:
                    summary = self._finished(path, name) if self.resume else None
                    if summary is None:
                        source = self._open(path)
                        if self.detector.needs_tiles(source) if self.tiled is None else self.tiled:
                            in_tiles.append((path, name))
                            continue
                        summary = self._predict_file(path, name, source, tiled=False)
                    summaries[str(path)] = summary
                except Exception as error:  # any kind: it concerns one file
                    failed += 1
                    _say_failure(path, error)
                progress.update()
            in_tiles = [entry for part in all_gather_object(in_tiles) for entry in part]
            progress.total = progress.n + len(in_tiles)
            for path, name in in_tiles:
                try:
                    summary = self._predict_file(path, name, self._open(path), tiled=True)
                    if is_main_process():
                        summaries[str(path)] = summary
                except Exception as error:
                    if world_size > 1:  # the others would wait for this process forever
                        raise UserError(f'{path}: {error}; all processes stop') from error
                    failed += 1
                    _say_failure(path, error)
                progress.update()
        parts = all_gather_object((summaries, failed))
        merged = {path: summary for part, _ in parts for path, summary in part.items()}
        in_order = {str(path): merged[str(path)] for path in paths if str(path) in merged}
        return in_order, sum(count for _, count in parts)

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self.out_dir, self.formats)

    def _finished(self, path: Path, name: str) -> dict | None:
        try:
            return self._ledger.finished(name, self._settings(path))
        except OSError:  # of the image: opening it gives the message
            return None

    def _open(self, path: Path) -> object:
        source = open_image(path, self.channel_order)
        source.pixel_size = self.detector.pixel_size or source.pixel_size
        return source

    def _origin(self, path: Path) -> dict:
        """What the cells of a file depend on, besides the tiles."""
        image = [str(path.resolve()), *file_state(path)]
        return dict(self.detector.origin, image=image, channel_order=self.channel_order)

    def _settings(self, path: Path) -> dict:
        """What the outputs of a file depend on, besides the formats."""
        return dict(self._origin(path), tiled=self.tiled, **self.tile_options)

    def _predict_file(self, path: Path, name: str, source: object, tiled: bool) -> dict | None:
        """Write all outputs of a file; return its summary, or None in processes that only helped with the tiles."""
        start, tiles = time.monotonic(), self.out_dir / '.tiles' / name
        check_outputs(self.out_dir, name, self.formats)  # before the model works for hours
        if not self.resume and is_main_process():
            shutil.rmtree(tiles, ignore_errors=True)
        stream = self.detector.stream(source, tiles, self._origin(path), tiled, **self.tile_options)
        if tiled and not is_main_process():
            return None
        settings = self._settings(path)
        other_formats = self._ledger.clear(name, settings)
        summary = export_cells(stream, source, self.out_dir, name, self.formats, self.detector.classes)
        note, seconds = self._note(source, summary, tiled), time.monotonic() - start
        report = dict(summary=summary, note=note, seconds=seconds, settings=settings)
        self._ledger.record(name, dict(report, formats=[*self.formats, *other_formats]))
        shutil.rmtree(tiles, ignore_errors=True)
        counts = ', '.join(f'{label} {entry["cells"]:,}' for label, entry in summary['classes'].items())
        tqdm.write(f'{printable(path)}: {summary["cells"]:,} cells ({counts}); {note}')
        return summary

    def _note(self, source: object, summary: dict, tiled: bool) -> str:
        """How a file was processed, in words."""
        full = not tiled and summary['cells'] >= self.detector.max_cells
        resized = self.detector.describe_size(source)
        parts = [
            f'{source.width}x{source.height} px',
            f'{source.pixel_size:.4g} um a px' if source.pixel_size else '',
            source.note,
            resized,
            f'in tiles, at {self.detector.scale:.2f} times {"that" if resized else "its"} size' if tiled else '',
            'as many cells as the model can find at once: --tile may find more' if full else '',
        ]
        return '; '.join(part for part in parts if part)


def _say_failure(path: Path, error: Exception) -> None:
    """Print one line on a file that failed."""
    text = ' '.join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        text = f'{path}: out of GPU memory; --tile and a smaller --tile-size need less'
    elif not isinstance(error, UserError):
        text = f'{path}: {type(error).__name__}: {text}'
    tqdm.write(f'error: {printable(text)}', file=sys.stderr)
