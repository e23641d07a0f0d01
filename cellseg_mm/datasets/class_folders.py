"""The task's layout: a folder an image, with ``image.tif`` and a mask ``classN.tif`` for each class that has cells.

::

    SRC/train/NAME/{image.tif,class1.tif,class2.tif,...}
    SRC/test/NAME/...                       # labelled test images, in the same form, where there are any
    SRC/test_release/NAME.tif               # else: test images alone
    SRC/test_image_name_to_ids.json         # their ids for a submission

Images are 8-bit RGB or RGBA. Masks have one channel of whole numbers, of whatever dtype (float64 in the real files):
0 is background, each other number one instance of the class.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cellseg_mm.structures import relabel, stack_layers
from cellseg_mm.utils import UserError

# a broken file is told in our own one line, not in OpenCV's several
_set_log_level = cv2.setLogLevel if hasattr(cv2, 'setLogLevel') else cv2.utils.logging.setLogLevel  # OpenCV 4 or 5
_set_log_level(0)


@dataclass(frozen=True)
class Sample:
    """One image of the source.

    Attributes:
        name: Unique over the set, and a legal file stem.
        split: ``'train'`` or ``'test'``.
        image: The image's file.
        masks: Mask files by class number from 1 on; None where the image has no labels.
        image_id: The id that the source gives it, or None.
    """

    name: str
    split: str
    image: Path
    masks: dict | None
    image_id: int | None = None


def find_samples(src: Path, num_classes: int) -> list:
    """All images of a source folder, train before test, by name.

    Raises:
        UserError: If the layout is not as described above, or a class file is beyond ``num_classes``.
    """
    if not (src / 'train').is_dir():
        raise UserError(f'{src}: no folder train/ in it; expected train/NAME/image.tif and classN.tif beside it')
    ids = _read_ids(src / 'test_image_name_to_ids.json')
    train = [_find_sample(folder, 'train', num_classes, {}) for folder in _folders(src / 'train')]
    if len(train) < 2:
        raise UserError(f'{src / "train"}: {len(train)} image folders, at least 2 needed (training and validation)')
    test = [_find_sample(folder, 'test', num_classes, ids) for folder in _folders(src / 'test')]
    if not test:
        files = sorted(path for path in src.glob('test_release/*.tif*') if not path.name.startswith('.'))
        test = [Sample(path.stem, 'test', path, None, ids.get(path.stem)) for path in files]
    train_names = {sample.name for sample in train}
    for sample in test:
        if sample.name in train_names:
            raise UserError(f'{sample.image}: the name {sample.name} is in train/ too; give one of them another name')
    return train + test


def _folders(parent: Path) -> list:
    return sorted(path for path in parent.glob('*') if path.is_dir() and not path.name.startswith('.'))


def _read_ids(path: Path) -> dict:
    """Image ids by file stem; empty without the file."""
    if not path.exists():
        return {}
    try:
        return {Path(entry['file_name']).stem: int(entry['id']) for entry in json.loads(path.read_text('utf-8'))}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f'{path}: not a list of {{"file_name", "id", ...}} ({error!r})') from error


def _find_sample(folder: Path, split: str, num_classes: int, ids: dict) -> Sample:
    images = [folder / name for name in ('image.tif', 'image.tiff', 'image.png') if (folder / name).exists()]
    if not images:
        raise UserError(f'{folder}: no image.tif in it')
    masks = {}
    for path in sorted(folder.glob('class*')):
        match = re.fullmatch(r'class(\d+)\.(tif|tiff|png)', path.name)
        if not match:
            continue
        number = int(match[1])
        if not 1 <= number <= num_classes:
            raise UserError(f'{path}: class {number}, but {num_classes} class names are given; see --classes')
        masks[number] = path
    return Sample(folder.name, split, images[0], masks, ids.get(folder.name))


def read_image(path: Path) -> np.ndarray:
    """The image as stored, (H, W, 3) uint8, channels in the file's order, alpha dropped.

    Raises:
        UserError: If it cannot be read, or is not 8-bit with 3 or 4 channels.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UserError(f'{path}: not readable as an image (truncated, or not an image file?)')
    if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype != np.uint8:
        channels = 1 if image.ndim == 2 else image.shape[2]
        raise UserError(f'{path}: 8-bit RGB or RGBA needed, found {channels} channels of {image.dtype}')
    return np.ascontiguousarray(image[..., 2::-1])  # OpenCV hands the file's first channel over as the third


def read_mask(path: Path, shape: tuple) -> np.ndarray:
    """One class mask, (H, W) int32 with its instances renumbered 1..N.

    Args:
        path (Path): The mask's file.
        shape (tuple): (H, W) of the image that it belongs to.

    Raises:
        UserError: If it cannot be read, has another size, or holds anything but whole numbers from 0 on.
    """
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise UserError(f'{path}: not readable as a mask (truncated, or not an image file?)')
    if mask.ndim != 2:
        raise UserError(f'{path}: a mask has one channel, this has {mask.shape[2]}')
    if mask.shape != shape:
        raise UserError(f'{path}: {mask.shape[1]}x{mask.shape[0]} px, but its image has {shape[1]}x{shape[0]}')
    if mask.dtype.kind == 'f':
        bad = ~np.isfinite(mask) | (mask != np.floor(mask)) | (np.abs(mask) > 2**53)
        if bad.any():
            row, col = np.argwhere(bad)[0]
            raise UserError(f'{path}: ids must be whole numbers, found {mask[row, col]} at row {row}, column {col}')
        mask = mask.astype(np.int64)
    if mask.min(initial=0) < 0:
        raise UserError(f'{path}: ids must not be negative, found {mask.min()}')
    return relabel(mask)[0]


def read_instances(sample: Sample, shape: tuple) -> tuple:
    """The labels of one image.

    Args:
        sample (Sample): With ``masks``.
        shape (tuple): (H, W) of its image.

    Returns:
        tuple: (L, H, W) int32 id layers with the instances numbered 1..N over the classes in turn (see
        :func:`cellseg_mm.structures.stack_layers`), and the class number, from 1 on, of each, (N,) int64.

    Raises:
        UserError: See :func:`read_mask`.
    """
    if not sample.masks:
        return np.zeros((1, *shape), np.int32), np.zeros(0, np.int64)
    numbers = sorted(sample.masks)
    layers, counts = stack_layers([read_mask(sample.masks[number], shape) for number in numbers])
    return layers, np.repeat(numbers, counts)
