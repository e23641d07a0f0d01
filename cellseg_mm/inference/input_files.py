"""Which files are to be read, and what their results are called."""

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cellseg_mm.images import SUFFIXES
from cellseg_mm.utils import UserError

RESERVED = 'summary'  # of all files together
LABELS = '_masks'  # ends the names of id maps beside images, as Cellpose has them


def find_images(inputs: Sequence) -> list:
    """The image files that inputs name, in their order, none twice.

    Args:
        inputs (Sequence[str]): Files, whether there or not; folders, of which the images directly in them are taken,
            but for ``NAME_masks`` beside ``NAME``, which is a map of its cells; glob patterns, ``**`` included.

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
            if not files:
                raise UserError(f'{path}: no image in this folder (those in its subfolders: "{path}/**/*.png")')
        elif not path.exists() and glob.has_magic(text):
            files = sorted(file for file in map(Path, glob.glob(text, recursive=True)) if file.is_file())
            if not files:
                raise UserError(f'{text}: no file matches')
        else:
            files = [path]
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _images_in(folder: Path) -> list:
    files = sorted(
        file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith('.')
    )
    labelled = {file.stem + LABELS for file in files}
    return [file for file in files if file.stem not in labelled]


def output_names(paths: Sequence) -> list:
    """A name of its own for each file's results, on file systems that do not tell cases apart, too.

    It is the file's stem; of files of one stem with the folder's name before it, then with the suffix behind it, then
    with a number.

    Args:
        paths (Sequence[Path]): All different.
    """
    names = [path.stem for path in paths]
    for template in ('{folder}_{stem}', '{folder}_{stem}_{suffix}'):
        counts = Counter([RESERVED, *(name.casefold() for name in names)])
        for index, path in enumerate(paths):
            if counts[names[index].casefold()] > 1:
                folder, suffix = path.resolve().parent.name, path.suffix.lstrip('.')
                names[index] = template.format(folder=folder, stem=path.stem, suffix=suffix)
    taken, unique = {RESERVED}, []
    for name in names:
        number, candidate = 1, name
        while candidate.casefold() in taken:
            number += 1
            candidate = f'{name}_{number}'
        taken.add(candidate.casefold())
        unique.append(candidate)
    return unique
