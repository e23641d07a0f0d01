"""Which files are read, and the names of their results."""

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cellseg_mm.images import DICOM, SUFFIXES, is_slide_folder
from cellseg_mm.utils import UserError

RESERVED = 'summary'  # of all files together
LABELS = '_masks'  # ending of id maps beside images, as in Cellpose


def find_images(inputs: Sequence) -> list:
    """The image files that inputs name, in their order, each once.

    Args:
        inputs (Sequence[str]): Files, present or not; folders, for the images directly in them, without id maps
            (``NAME_masks`` beside ``NAME``); glob patterns, with ``**``. A folder of OME-Zarr, or of DICOM files, is
            one image, as are all DICOM files in a folder.

    Returns:
        list[Path]: At least one.

    Raises:
        UserError: If a folder holds no image, or no file matches a pattern.
    """
    found = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            files = _images_in(path)
            if is_slide_folder(path):  # its subfolders are parts of it
                files = [path, *(file for file in files if file.is_file())]
            if not files:
                raise UserError(f'{path}: no image in this folder (those in its subfolders: "{path}/**/*.png")')
        elif not path.exists() and glob.has_magic(text):
            found_here = map(Path, glob.glob(text, recursive=True))
            files = sorted(file for file in found_here if file.is_file() or is_slide_folder(file))
            if not files:
                raise UserError(f'{text}: no file matches')
        else:
            files = [path]
        for file in files:
            if file.suffix.lower() == DICOM and file.is_file():
                file = file.parent
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _images_in(folder: Path) -> list:
    visible = [file for file in folder.iterdir() if not file.name.startswith('.')]
    files = sorted(file for file in visible if file.name.lower().endswith(SUFFIXES) or is_slide_folder(file))
    labelled = {file.stem + LABELS for file in files}
    return [file for file in files if file.stem not in labelled]


def output_names(paths: Sequence) -> list:
    """A unique name for each file's results, also on file systems that ignore case.

    It is the file's stem, or a folder's name without ``.zarr``; where several share it the folder around them comes
    before it, then the suffix after it, then a number.

    Args:
        paths (Sequence[Path]): The files, each once.
    """
    names = [_stem(path) for path in paths]
    for template in ('{folder}_{stem}', '{folder}_{stem}_{suffix}'):
        counts = Counter([RESERVED, *(name.casefold() for name in names)])
        for index, path in enumerate(paths):
            if counts[names[index].casefold()] > 1:
                folder, suffix = path.resolve().parent.name, path.suffix.lstrip('.')
                names[index] = template.format(folder=folder, stem=_stem(path), suffix=suffix)
    taken, unique = {RESERVED}, []
    for name in names:
        number, candidate = 1, name
        while candidate.casefold() in taken:
            number += 1
            candidate = f'{name}_{number}'
        taken.add(candidate.casefold())
        unique.append(candidate)
    return unique


def _stem(path: Path) -> str:
    """A file's stem; the name of a folder, which may be a DICOM identifier with dots, without ``.zarr``."""
    return (path.name if path.is_dir() else path.stem).removesuffix('.zarr')
