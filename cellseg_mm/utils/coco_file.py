"""COCO files: read, with the first wrong entry named."""

import reprlib
from pathlib import Path

from .errors import UserError
from .files import read_json

PARTS = ('images', 'annotations', 'categories')


def read_coco(path: Path, origin: str, **checks: tuple) -> dict:
    """A COCO annotation file: ids and names of images and categories, sizes, and the ids in annotations are checked.

    An annotation of an image that is not listed is wrong: its cell would count nowhere.

    Args:
        path (Path): The file.
        origin (str): Where such a file comes from, for the message.
        checks (tuple): Further keys of an annotation, see :func:`check_entries`.

    Raises:
        UserError: If the file is missing or not of this form, with the first wrong entry.
    """
    content = read_json(path, origin)
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in PARTS):
        raise UserError(f'{path}: not a COCO annotation file; it needs {", ".join(PARTS)}')
    side = (lambda value: type(value) is int and value > 0, 'a number of px')
    image = dict(id=(is_id, 'an id'), file_name=(is_text, 'a text'), height=side, width=side)
    check_entries(path, 'image entry', content['images'], image)
    check_entries(path, 'category entry', content['categories'], dict(id=(is_id, 'an id'), name=(is_text, 'a text')))
    for part in ('images', 'categories'):
        if len({entry['id'] for entry in content[part]}) < len(content[part]):
            raise UserError(f'{path}: two of its {part} have the same id; give each its own')
    listed = {part: {entry['id'] for entry in content[part]} for part in ('images', 'categories')}
    annotation = dict(
        image_id=(lambda value: is_id(value) and value in listed['images'], 'the id of a listed image'),
        category_id=(lambda value: is_id(value) and value in listed['categories'], 'the id of a listed category'),
        **checks,
    )
    check_entries(path, 'annotation entry', content['annotations'], annotation)
    return content


def check_entries(path: Path, what: str, entries: list, checks: dict) -> None:
    """Check that entries are objects with the keys of ``checks``.

    Args:
        path (Path): Their file, for the message.
        what (str): What an entry is, for the message.
        entries (list): JSON values.
        checks (dict[str, tuple]): Key to a test of its value, and the expected value in words.

    Raises:
        UserError: For the first entry that fails.
    """
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f'{path}: {what} {index}: is {reprlib.repr(entry)}, expected an object {{...}}')
        for key, (is_good, expected) in checks.items():
            if key not in entry:
                raise UserError(f'{path}: {what} {index}: has no {key}')
            if not is_good(entry[key]):
                raise UserError(f'{path}: {what} {index}: {key} is {reprlib.repr(entry[key])}, expected {expected}')


def is_id(value: object) -> bool:
    """Whether a JSON value is a whole number or a text."""
    return type(value) in (int, str)


def is_text(value: object) -> bool:
    """Whether a JSON value is a text."""
    return type(value) is str


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number within float64's range."""
    return type(value) in (int, float) and abs(value) < 1e300


def is_box(value: object) -> bool:
    """Whether a JSON value is a list of 4 numbers, see :func:`is_number`."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))
