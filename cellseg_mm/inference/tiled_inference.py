"""Inference on images of any size, tile by tile: resumable, streamed, on any number of processes."""

import io
import itertools
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from mmengine.dist import barrier, get_dist_info, is_main_process
from tqdm import tqdm

from cellseg_mm.structures import Cells, Runs
from cellseg_mm.utils import UserError, read_json, write_atomically, write_json

from .merge import merge_tiles
from .tile_grid import TileGrid, default_overlap, is_blank


def predict_tiled(
    detector: Callable,
    source: object,
    work_dir: str | Path,
    origin: dict,
    tile_size: int = 1024,
    overlap: int | None = None,
    batch_size: int = 4,
    skip_background: bool = True,
    alone: bool = False,
) -> Iterator:
    """The cells of a large image.

    Each tile's cells are written to a file in ``work_dir``, and a run that was stopped goes on from these files.
    Several processes, as a launcher starts them, share the tiles: each calls this function, with a folder that all of
    them see. Then the main process merges the tiles. Memory does not grow with the image's height, and with its width
    only by the cells near one row of seams.

    For an image that fits into one tile the detector is called once, and the result is its cells.

    Args:
        detector (Callable): ``list[(H, W, 3) uint8 RGB] -> list[Cells]``.
        source (object): Has ``height``, ``width`` and ``read(x, y, width, height)``, which returns a window, (H, W, 3)
            uint8 RGB.
        work_dir (str | Path): Made if absent, and left behind; nothing in it is needed after the last cell.
        origin (dict): What the cells depend on besides the tiling, such as path, size and time of change of the image
            and the checkpoint: plain JSON values. Tiles of another origin or tiling are refused.
        tile_size (int): Px a side, at most.
        overlap (int | None): Px that neighbouring tiles share, by default :func:`default_overlap`. At least one tile
            shows a smaller cell whole; larger cells are united from pieces.
        batch_size (int): Tiles in a call of the detector.
        skip_background (bool): Skip tiles that show only glass, see :func:`is_blank`.
        alone (bool): This process does everything, even if there are others.

    Returns:
        Iterator[Cells]: Parts in the whole image's pixels, in the main process; no part without cells.

    Raises:
        UserError: If the tiling is impossible, or ``work_dir`` holds tiles of another origin or a broken one.
    """
    overlap = default_overlap(tile_size) if overlap is None else overlap
    grid = TileGrid.cover(source.height, source.width, tile_size, overlap)
    work_dir = Path(work_dir)
    # with one tile this gains nothing, and the result must be that of the plain path
    skip_background = skip_background and len(grid) > 1
    rank, world_size = (0, 1) if alone else get_dist_info()
    if rank == 0:
        _claim(
            work_dir,
            dict(
                origin,
                height=source.height,
                width=source.width,
                tile_size=tile_size,
                overlap=overlap,
                skip_background=skip_background,
            ),
        )
    # shuffled, because otherwise one process could get the columns with all the tissue
    share = np.sort(np.random.default_rng(0).permutation(len(grid))[rank::world_size]).tolist()
    if not alone:
        barrier()
    _detect(detector, source, grid, share, work_dir, batch_size, skip_background)
    if not alone:
        barrier()
    return merge_tiles(grid, _read_tiles(grid, work_dir)) if rank == 0 else iter(())


def _claim(work_dir: Path, key: dict) -> None:
    """Note the origin of a folder's tiles; refuse a folder with tiles of another origin."""
    path = work_dir / 'key.json'
    key = json.loads(json.dumps(key))
    if not path.exists():
        write_json(path, key)
        return
    found = read_json(path, 'it names the origin of the tiles beside it')
    differing = [name for name in found.keys() | key.keys() if found.get(name) != key.get(name)]
    if differing:
        name = min(differing)
        raise UserError(
            f'{work_dir}: holds tiles of another run ({name} {found.get(name)!r}, not {key.get(name)!r}); name another '
            'folder or delete this one'
        )


def _detect(
    detector: Callable,
    source: object,
    grid: TileGrid,
    share: list,
    work_dir: Path,
    batch_size: int,
    skip_background: bool,
) -> None:
    """Find and store the cells of this process's tiles; those stored already are skipped."""
    missing = [index for index in share if not _tile_path(work_dir, index).exists()]
    with tqdm(
        total=len(share), initial=len(share) - len(missing), desc='tiles', unit='tile', disable=not is_main_process()
    ) as progress:

        def windows() -> Iterator:
            for index in missing:
                window = source.read(*grid.window(index))
                if skip_background and is_blank(window):
                    _write_tile(work_dir, index, None)
                    progress.update()
                else:
                    yield index, window

        stream = windows()
        while batch := list(itertools.islice(stream, batch_size)):
            for (index, _), cells in zip(batch, detector([window for _, window in batch]), strict=True):
                _write_tile(work_dir, index, cells)
                progress.update()


def _tile_path(work_dir: Path, index: int) -> Path:
    return work_dir / f'tile_{index:06d}.npz'


def _write_tile(work_dir: Path, index: int, cells: Cells | None) -> None:
    """Store a tile's cells; None stands for a skipped tile."""
    arrays = {}
    if cells is not None:
        counts = np.bincount(cells.runs.owner, minlength=len(cells))
        # places of a tile fit into 31 bits
        arrays = {'counts': counts, 'start': cells.runs.start, 'length': cells.runs.length}
        arrays = {name: values.astype(np.int32) for name, values in arrays.items()}
        arrays.update(labels=cells.labels, scores=cells.scores)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(_tile_path(work_dir, index), buffer.getvalue())


def _read_tiles(grid: TileGrid, work_dir: Path) -> Iterator:
    """The cells that :func:`_write_tile` stored, tile by tile."""
    for index in tqdm(range(len(grid)), desc='merging', unit='tile', delay=2):
        path = _tile_path(work_dir, index)
        try:
            with np.load(path) as file:
                arrays = dict(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f'{path}: cannot be read ({error}); delete it and run again') from error
        if not arrays:
            yield None
            continue
        owner = np.repeat(np.arange(len(arrays['counts'])), arrays['counts'])
        runs = Runs(owner, *(arrays[name].astype(np.int64) for name in ('start', 'length')))
        yield Cells(runs, arrays['labels'], arrays['scores'], grid.tile_height, grid.tile_width)
