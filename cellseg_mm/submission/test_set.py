import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cellseg_mm.datasets.formats.task import read_image
from cellseg_mm.utils import UserError

from .findings import MAX_LINES


def write_test_set(images: list, source: Path, order: str, classes: Sequence, out: Path) -> None:
    """Write the files that a test dataloader reads: ``out/images/ID.png`` in true RGB, and ``out/annotations.json``
    without a cell.

    Args:
        images (list[dict]): See :func:`read_image_list`.
        source (Path): Folder of the image files.
        order (str): Channel order of the files: ``'rgb'`` or ``'bgr'``.
        classes (Sequence[str]): Names of class 1, 2, ...
        out (Path): A folder.

    Raises:
        UserError: If files are missing, are not images or differ from the listed size.
    """
    missing = [image['file_name'] for image in images if not (source / image['file_name']).is_file()]
    if missing:
        named = ', '.join(missing[:MAX_LINES]) + (', ...' if len(missing) > MAX_LINES else '')
        raise UserError(f'{source}: {len(missing)} of the {len(images)} listed images are missing: {named}')
    (out / 'images').mkdir(parents=True)
    entries = []
    for image in tqdm(images, desc='reading images', unit='image'):
        path, expected = source / image['file_name'], (image['height'], image['width'])
        pixels = read_image(path)
        if pixels.shape[:2] != expected:
            found = f'{pixels.shape[1]}x{pixels.shape[0]}'
            raise UserError(f'{path}: {found} px (width x height), but {expected[1]}x{expected[0]} in the list')
        entries.append(dict(image, file_name=f'{image["id"]}.png'))
        target = out / 'images' / entries[-1]['file_name']
        # OpenCV takes BGR; its imwrite() does not see that the disk is full if the file is small
        target.write_bytes(
            cv2.imencode('.png', np.ascontiguousarray(pixels[..., ::-1] if order == 'rgb' else pixels))[1]
        )
    categories = [dict(id=number, name=name) for number, name in enumerate(classes, start=1)]
    content = dict(images=entries, annotations=[], categories=categories)
    (out / 'annotations.json').write_text(json.dumps(content), encoding='utf-8')
