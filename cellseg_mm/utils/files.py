"""Files that appear whole or not at all."""

import io
import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from .errors import UserError


def output_folder(text: str) -> Path:
    """A type for argparse: the folder that an option names, which is not made yet.

    Raises:
        UserError: If it is a file, or nothing can be written there. Better before hours of work than after.
    """
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise UserError(f'{path}: is a file; name a folder')
    _check_writable(path)
    return path


def output_file(*suffixes: str) -> Callable:
    """A type for argparse: a file to be written, as :func:`output_folder`.

    Args:
        suffixes (str): Allowed endings, such as ``'.json'``, so that a slip does not replace an image.
    """

    def check(text: str) -> Path:
        path = Path(text)
        if path.suffix not in suffixes:
            raise UserError(f'{path}: the name must end in {" or ".join(suffixes)}')
        if path.is_dir():
            raise UserError(f'{path}: is a folder; name a file')
        _check_writable(path.parent)
        return path

    return check


def _check_writable(folder: Path) -> None:
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f'{folder}: cannot be written to ({error.strerror}); choose another place') from error


def read_json(path: Path, origin: str = '', strict: bool = False) -> object:
    """The content of a JSON file.

    Args:
        path (Path): The file.
        origin (str): Where such a file comes from, for the message.
        strict (bool): Refuse nan and infinity, which JSON excludes and Python reads.

    Raises:
        UserError: If it cannot be read or is not valid JSON.
    """

    def refuse(name: str) -> None:
        raise ValueError(f'{name} is not a JSON number')

    advice = f'; {origin}' if origin else ''
    try:
        return json.loads(Path(path).read_text('utf-8-sig'), parse_constant=refuse if strict else None)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}{advice}') from error
    except RecursionError as error:
        raise UserError(f'{path}: is not valid JSON (nested too deeply){advice}') from error
    except ValueError as error:
        raise UserError(f'{path}: is not valid JSON ({error}){advice}') from error


def printable(text: str | Path) -> str:
    """A text that can be encoded: bytes of a file name that are not UTF-8 become escapes such as ``\\udce9``."""
    return str(text).encode('utf-8', 'backslashreplace').decode('utf-8')


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file beside its place, then move it there: neither a reader nor a killed run meets half of it.

    Raises:
        OSError: If it cannot be written; an older file is then untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        with open(partial, 'wb') as file:
            file.write(printable(content).encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        error.filename = str(path)  # a failed write does not say which file
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically; nan and infinity, which JSON cannot hold, become null."""
    write_atomically(path, json.dumps(_finite(content), indent=2, allow_nan=False) + '\n')


def write_plot(path: Path, figure: Figure) -> None:
    """Write a matplotlib figure as PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120)
    write_atomically(path, buffer.getvalue())


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
