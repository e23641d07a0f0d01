"""The SHA-256 of a file, and the ``.sha256`` file beside it."""

import hashlib
from pathlib import Path
from typing import BinaryIO

from .errors import UserError


def check_digest(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal.

    Raises:
        UserError: If the ``.sha256`` file beside it holds another one.
    """
    with open(path, 'rb') as file:
        digest = _sha256(file)
    recorded = digest_file(path)
    if recorded.is_file() and recorded.read_text('utf-8').split()[:1] != [digest]:
        raise UserError(
            f'{path}: cut off or changed since it was written ({recorded.name} has another SHA-256); use another '
            'checkpoint, or copy it again'
        )
    return digest


def _sha256(file: BinaryIO) -> str:
    """As ``hashlib.file_digest``, which Python 3.10 lacks."""
    digest = hashlib.sha256()
    while chunk := file.read(2**20):
        digest.update(chunk)
    return digest.hexdigest()


def digest_file(path: Path) -> Path:
    """The file that holds the SHA-256 of a file, for ``sha256sum -c``."""
    return path.with_name(f'{path.name}.sha256')
