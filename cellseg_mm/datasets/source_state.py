"""Whether the source files of a prepared data set are still the same."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from cellseg_mm.utils import read_json, write_json

from .splits import SPLITS

NAME = 'source.json'


def is_prepared(folder: Path) -> bool:
    """Whether a folder is a prepared data set of any version."""
    names = ('statistics.json', *(f'annotations/{split}.json' for split in SPLITS))
    return all((folder / name).is_file() for name in names)


def source_state(source: Path, files: list | None = None) -> dict:
    """The number of a source's files, and a digest of their names, sizes and times of change.

    Args:
        source (Path): A folder or a file.
        files (list[str] | None): The files that count. If None, all in the folder except hidden files, which no format
            reads, and prepared data sets, which may be written into it.
    """
    paths = _walk(source) if files is None else [path for path in files if os.path.lexists(path)]
    entries = []
    for path in paths:
        stat = os.lstat(path)
        entries.append(f'{Path(os.path.relpath(path, source)).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}')
    text = '\n'.join(sorted(entries))
    return dict(files=len(entries), digest=hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest())


def _walk(source: Path) -> Iterator:
    for base, folders, names in os.walk(source):
        folders[:] = [name for name in folders if name[0] != '.' and not is_prepared(Path(base, name))]
        yield from (os.path.join(base, name) for name in names if name[0] != '.')


def record_source(source: Path, root: Path, images: list) -> None:
    """Write the source of a prepared data set into it, in a separate file, because it holds only on this machine.

    Args:
        source (Path): A folder, of which all files count, because added ones matter; or a file, which counts only with
            its images, because other things may lie beside it.
        root (Path): The prepared data set.
        images (list[Path]): The images' files.
    """
    source = source.absolute()
    used = None if source.is_dir() else [str(path.absolute()) for path in (source, *images)]
    write_json(root / NAME, dict(source=str(source), **source_state(source, used), used=used))


def stale_source(root: Path) -> str | None:
    """A message if the source of a prepared data set has changed since; None if it is unchanged or missing."""
    path = root / NAME
    if not path.is_file():
        return None
    recorded = read_json(path, 'tools/prepare_data.py writes it')
    source = Path(recorded['source'])
    if not source.exists():
        return None
    now = source_state(source, recorded.get('used'))
    if now['digest'] == recorded['digest']:
        return None
    then, later = recorded['files'], now['files']
    how = f'{then} files then, {later} now' if then != later else f'{then} files, some of another size or date'
    return (
        f'{root}: its source {source} has changed since it was prepared ({how}); prepare it again, or delete {path} if '
        'that does not matter'
    )
