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
