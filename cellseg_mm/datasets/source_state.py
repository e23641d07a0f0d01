"""Whether the files that a prepared set was made of are still the same."""

import hashlib
import os
from pathlib import Path

from cellseg_mm.utils import read_json, write_json

NAME = 'source.json'


def source_state(folder: Path) -> dict:
    """Which files a folder holds: their number, and a digest of their names, sizes and times of change."""
    entries = []
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            stat = path.lstat()
            entries.append(f'{path.relative_to(folder).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}')
    text = '\n'.join(sorted(entries))
    return dict(files=len(entries), digest=hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest())


def record_source(folder: Path, root: Path) -> None:
    """Write into a prepared set what it was made of. In a file of its own, for it is true on this machine alone."""
    write_json(root / NAME, dict(folder=str(Path(folder).absolute()), **source_state(folder)))


def stale_source(root: Path) -> str | None:
    """What to say if the source of a prepared set has changed since; None if it has not, or is not there."""
    path = root / NAME
    if not path.is_file():
        return None
    recorded = read_json(path, 'it says what the set was made of; tools/prepare_data.py writes it')
    folder = Path(recorded['folder'])
    if not folder.is_dir():
        return None
    now = source_state(folder)
    if now['digest'] == recorded['digest']:
        return None
    return (
        f'{root}: its source {folder} has changed since it was prepared ({recorded["files"]} files then, '
        f'{now["files"]} now); prepare it again, or delete {path} if that does not matter'
    )
