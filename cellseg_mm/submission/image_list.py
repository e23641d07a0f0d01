import reprlib
from collections import Counter
from pathlib import Path

from cellseg_mm.utils import UserError, read_json


def read_image_list(path: Path) -> list:
    """The test images of ``test_image_name_to_ids.json``.

    Returns:
        list[dict]: file_name, id, height and width (px) of each.

    Raises:
        UserError: If it is missing or not such a list.
    """
    content = read_json(path, 'the course task provides test_image_name_to_ids.json')
    if not isinstance(content, list):
        raise UserError(f'{path}: not a list of test images')
    check_image_entries(content, path)
    return content


def check_image_entries(images: list, path: Path) -> None:
    """Make sure that all images have file_name, id, height and width, and different ids.

    Raises:
        UserError: If the list is empty, or an image lacks one of these; the first one is named.
    """
    if not images:
        raise UserError(f'{path}: lists no image')
    kinds = dict(file_name=str, id=int, height=int, width=int)
    for index, image in enumerate(images):
        if not isinstance(image, dict) or any(type(image.get(key)) is not kind for key, kind in kinds.items()):
            raise UserError(
                f'{path}: image entry {index} is {reprlib.repr(image)}; a text "file_name" and whole numbers "id", '
                '"height" and "width" are needed'
            )
    number, count = Counter(image['id'] for image in images).most_common(1)[0]
    if count > 1:
        raise UserError(f'{path}: {count} images have the id {number}; ids must differ')
