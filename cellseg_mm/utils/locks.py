import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import UserError


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[IO]:
    """Hold a lock on a file, which is made where it is missing, within the block.

    The lock also holds while a child process lives that inherited the file.

    Args:
        path (Path): Of the file; its folder exists.
        busy (str | None): What to say if another process holds the lock. None waits for it.

    Yields:
        IO: The open file.

    Raises:
        UserError: If another process holds the lock, with ``busy``; and on Windows, which has no such locks.
    """
    try:
        import fcntl  # missing on Windows
    except ImportError as error:
        raise UserError('tools/ablate.py and --budget need file locks, which Windows lacks; use WSL') from error
    with open(path, 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as error:
            raise UserError(busy) from error
        yield file


@contextmanager
def claimed(path: Path, busy: str) -> Iterator:
    """Keep other processes out within the block, by a file that is removed at its end.

    Unlike :func:`locked`, the claim ends with this process, even if its children go on. Windows and some network drives
    have no such locks; there, nothing is kept out.

    Args:
        path (Path): Of the file; its folder is made where it is missing.
        busy (str): What to say if another process has the claim.

    Raises:
        UserError: If another process has the claim.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w') as file:
        try:
            import fcntl  # missing on Windows

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # its holder may have removed it since it was opened
            is_taken = not os.path.samestat(os.fstat(file.fileno()), os.stat(path))
        except (BlockingIOError, PermissionError, FileNotFoundError):
            is_taken = True
        except (ImportError, OSError):
            is_taken = False
        if is_taken:
            raise UserError(busy)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


# of write_atomically() and export_cells(): a file with the number of its process, or a folder
PARTIAL = re.compile(r'\..+\.(\d+|\w{8})\.partial')


def remove_partial(folder: Path) -> None:
    """Remove the unfinished files that a killed process left in a folder, which is :func:`claimed`."""
    for path in folder.iterdir():
        if PARTIAL.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
