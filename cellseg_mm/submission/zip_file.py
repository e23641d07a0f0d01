"""Writing and reading the zip."""

import json
import reprlib
import zipfile
from io import BytesIO
from pathlib import Path

from pycocotools import mask as mask_utils

from cellseg_mm.utils import UserError, write_atomically

from .findings import MAX_LINES, Findings, kind_of

MEMBER = 'test-results.json'
# A thousand detections in each of 100 images take about 30 MB; a few kB of zip can claim to hold terabytes.
MAX_BYTES = 2**30


def write_submission(path: Path, results: list) -> int:
    """Write the zip, without detections that have no pixel or a box without an area, because they match nothing.

    Args:
        path (Path): The zip.
        results (list[dict]): See :func:`encode_predictions`, with valid codes.

    Returns:
        int: Number of detections left out.
    """
    kept = [entry for entry in results if mask_utils.area(entry['segmentation']) and min(entry['bbox'][2:]) > 0]
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, json.dumps(kept, allow_nan=False))
    write_atomically(path, buffer.getvalue())
    return len(results) - len(kept)


def read_zip(path: Path, findings: Findings) -> list | None:
    """The list in the zip; None if it cannot be read."""
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    text = _read_member(path, findings)
    if text is None:
        return None
    constants = []
    try:
        content = json.loads(text, parse_constant=lambda name: constants.append(name) or float(name))
    except (ValueError, RecursionError) as error:
        reason = 'nested too deeply' if isinstance(error, RecursionError) else error
        findings.add('broken JSON', f'{MEMBER}: broken JSON ({reason}); write it with a JSON library')
        return None
    if constants:
        findings.add(
            'not a JSON number',
            f'{MEMBER}: holds {" or ".join(sorted(set(constants)))} {len(constants):,} times, which JSON does not '
            'allow; leave such detections out',
        )
    if not isinstance(content, list):
        hint = f' with {reprlib.repr(sorted(content))}' if isinstance(content, dict) else ''
        findings.add(
            'not a list',
            f'{MEMBER}: is a JSON {kind_of(content)}{hint}, expected one flat list of detections [{{...}}, ...]',
        )
        return None
    return content


def _read_member(path: Path, findings: Findings) -> bytes | None:
    """The bytes of ``test-results.json``; None if they cannot be read."""
    if not zipfile.is_zipfile(path):
        with open(path, 'rb') as file:
            start = file.read(16)
        if start.startswith(b'PK'):
            findings.add('damaged zip', f'{path}: the zip is cut off (no table of contents); copy it again')
        else:
            findings.add('not a zip', f'{path}: not a zip file (it starts with {start!r}); put {MEMBER} into a zip')
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if MEMBER not in names:
                findings.add('no member', f'{path}: no {MEMBER} at the top level; the zip holds {_listed(names)}')
                return None
            size = archive.getinfo(MEMBER).file_size
            if size > MAX_BYTES:
                findings.add(
                    'implausible size',
                    f'{path}: {MEMBER} would unpack to {size:,} bytes, more than {MAX_BYTES:,}; it is not unpacked',
                )
                return None
            with archive.open(MEMBER) as member:
                return member.read(size)  # not more: the table of contents may understate the size
    except Exception as error:  # a damaged zip raises many kinds
        findings.add('damaged zip', f'{path}: the zip is damaged ({error}); write or copy it again')
        return None


def _listed(names: list) -> str:
    more = f' and {len(names) - MAX_LINES} more' if len(names) > MAX_LINES else ''
    return ', '.join(map(str, names[:MAX_LINES])) + more or 'nothing'
