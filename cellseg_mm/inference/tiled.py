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
from .tiles import TileGrid, is_blank


def predict_tiled(
    detector: Callable,
    source: object,
    work_dir: str | Path,
    origin: dict,
    tile_size: int = 1024,
    overlap: int = 128,
    batch_size: int = 4,
    skip_background: bool = True,
    alone: bool = False,
) -> Iterator:
    """The cells of a large image.

    Each tile's cells go to a file in ``work_dir`` when they are found, and a run that was stopped goes on there.
    Several processes, as a launcher starts them, share the tiles: all of them call this, with a folder that all of
    them see. When the tiles are done the main process merges them. Memory does not grow with the image's height, and
    with its width only by the cells near one row of seams.

    An image that fits into one tile is one call of the detector, and its cells are the detector's.

    Args:
        detector (Callable): ``list[(H, W, 3) uint8 RGB] -> list[Cells]``.
        source (object): Has ``height``, ``width`` and ``read(x, y, width, height)``, which returns a window, (H, W, 3)
            uint8 RGB.
        work_dir (str | Path): Made if absent, and left behind; what it holds is not needed after the last cell.
        origin (dict): What the cells depend on besides the tiling, such as the image's and the checkpoint's path, size
            and time of change: plain JSON values. Tiles of another origin or another tiling are refused.
        tile_size (int): Px a side at most.
        overlap (int): Px that neighbouring tiles share. Cells below that are seen whole at least once; larger ones are
            united from pieces.
        batch_size (int): Tiles a call of the detector.
        skip_background (bool): Pass over tiles that show glass alone, see :func:`is_blank`.
        alone (bool): This process does all, though there may be others, and has the result.

    Returns:
        Iterator[Cells]: Parts in the whole image's pixels; none where no cell was found, and none in processes other
            than the main one.

    Raises:
        UserError: If the tiling is impossible, or ``work_dir`` holds tiles of something else or a broken one.
    """
    grid = TileGrid.cover(source.height, source.width, tile_size, overlap)
    work_dir = Path(work_dir)
    # with one tile nothing is to be gained, and the result is that of the plain path whatever the image shows
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
    # shuffled, or a process could have the columns that hold all the tissue
    share = np.sort(np.random.default_rng(0).permutation(len(grid))[rank::world_size]).tolist()
    if not alone:
        barrier()
    _detect(detector, source, grid, share, work_dir, batch_size, skip_background)
    if not alone:
        barrier()
    return merge_tiles(grid, _read_tiles(grid, work_dir)) if rank == 0 else iter(())


def _claim(work_dir: Path, key: dict) -> None:
    """Note in a folder what its tiles are of, or see that they are of the same."""
    path = work_dir / 'key.json'
    key = json.loads(json.dumps(key))
    if not path.exists():
        write_json(path, key)
        return
    found = read_json(path, 'it says what the tiles beside it are of')
    differing = [name for name in found.keys() | key.keys() if found.get(name) != key.get(name)]
    if differing:
        name = min(differing)
        raise UserError(
            f'{work_dir}: holds tiles of another run, whose {name} is {found.get(name)!r} and not {key.get(name)!r}; '
            'name another folder or delete it'
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
    """Find and store the cells of this process's share of the tiles, but for those that are stored already."""
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
    """Store a tile's cells, or with None that it was not looked at."""
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
    """What :func:`_write_tile` stored, tile by tile."""
    for index in tqdm(range(len(grid)), desc='merging', unit='tile', delay=2):
        path = _tile_path(work_dir, index)
        try:
            with np.load(path) as file:
                arrays = dict(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f'{path}: cannot be read ({error}); delete it, and it will be made anew') from error
        if not arrays:
            yield None
            continue
        owner = np.repeat(np.arange(len(arrays['counts'])), arrays['counts'])
        runs = Runs(owner, *(arrays[name].astype(np.int64) for name in ('start', 'length')))
        yield Cells(runs, arrays['labels'], arrays['scores'], grid.tile_height, grid.tile_width)
