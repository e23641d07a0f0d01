"""Outputs take the places of earlier ones; a folder is replaced or removed only if it was written here."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from cellseg_mm.utils import UserError

MARKER = 'written_by_cellseg_mm.txt'
MARKER_TEXT = 'cellseg_mm wrote this folder, and replaces it when it writes the same output again.\n'


def mark_folder(folder: Path) -> None:
    """Note in a folder that it was written here."""
    (folder / MARKER).write_text(MARKER_TEXT, 'utf-8')


def check_replaceable(paths: Sequence) -> None:
    """Check that outputs may take these places, or that what lies there may be removed.

    Args:
        paths (Sequence[Path]): Of files and folders, which may not be there.

    Raises:
        UserError: For a folder that was not written here.
    """
    for path in paths:
        if path.is_dir() and not (path / MARKER).is_file():
            raise UserError(f'{path}: a folder that cellseg_mm did not write; move it, or choose another folder')


def remove_output(path: Path) -> None:
    """Remove a file or folder, if it is there.

    Raises:
        UserError: See :func:`check_replaceable`.
    """
    check_replaceable([path])
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def move_outputs(folder: Path, out_dir: Path, earlier: Path) -> None:
    """Move finished outputs to their places.

    Args:
        folder (Path): The outputs, and nothing else.
        out_dir (Path): Where they go, on the same file system.
        earlier (Path): An empty folder there, for the folders that they replace.

    Raises:
        UserError: See :func:`check_replaceable`; nothing was moved then.
    """
    outputs = sorted(folder.iterdir())
    check_replaceable([out_dir / path.name for path in outputs])
    for path in outputs:
        target, old = out_dir / path.name, earlier / path.name
        try:
            if path.is_dir() and target.exists():  # a folder does not replace another one with something in it
                os.replace(target, old)
            os.replace(path, target)
        except BaseException:
            if old.exists() and not target.exists():
                os.replace(old, target)
            raise
