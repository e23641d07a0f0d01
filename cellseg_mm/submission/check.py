"""Everything that is wrong with a submission."""

import reprlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps
from tqdm import tqdm

from cellseg_mm.structures import decode_runs
from cellseg_mm.utils.coco_file import is_box, is_number

from .findings import Findings, kind_of
from .zip_file import read_zip

# px by which a box may pass the border: some count the last pixel, and floats are rounded.
BORDER = 1


class Report(NamedTuple):
    """The result of a check.

    Attributes:
        results: The detections, as far as the file could be read.
        problems: Lines that say what is wrong where, and what is expected; empty for a good file.
        warnings: Such lines about what is legal but odd in a good file.
    """

    results: list
    problems: list
    warnings: list


def check_submission(path: Path, images: list, num_classes: int, allow_empty: bool = False) -> Report:
    """Check a submission for everything that is wrong with it.

    Args:
        path (Path): The zip.
        images (list[dict]): See :func:`read_image_list`.
        num_classes (int): Categories are 1 to this number.
        allow_empty (bool): Whether images may have no detection.

    Raises:
        UserError: If the file does not exist.
    """
    findings = Findings()
    results = read_zip(Path(path), findings)
    if results is not None:
        _check_results(results, images, num_classes, allow_empty, findings)
    problems = findings.shown()
    return Report(results or [], problems, [] if problems else _repeated(results))


def _check_results(results: list, images: list, num_classes: int, allow_empty: bool, findings: Findings) -> None:
    by_id = {image['id']: image for image in images}
    checks = dict(
        image_id=lambda value, image: _wrong_image_id(value, by_id),
        category_id=lambda value, image: _wrong_category(value, num_classes),
        score=lambda value, image: _wrong_score(value),
        bbox=_wrong_box,
        segmentation=_wrong_segmentation,
    )
    decodable = {number: [] for number in by_id}  # by image, (index, entry) of codes of the right form
    named = set()
    for index, entry in enumerate(results):
        if not isinstance(entry, dict):
            findings.add('no object', f'entry {index}: is a JSON {kind_of(entry)}, expected an object {{...}}')
            continue
        number = entry.get('image_id')
        image = by_id.get(number) if type(number) is int else None
        problems = {key: check(entry[key], image) for key, check in checks.items() if key in entry}
        for key in checks:
            if key not in entry:
                findings.add(f'entries without {key}', f'{_where(index, entry)}: has no {key}')
            elif problems[key]:
                kind, reason = problems[key]
                findings.add(kind, f'{_where(index, entry)}: {key} {reason}')
        if image:
            named.add(number)
            if 'segmentation' in entry and not problems['segmentation']:
                decodable[number].append((index, entry))
    boxed = []
    for number, image in tqdm(by_id.items(), desc='checking masks', unit='image', delay=2):
        boxed += _check_masks(decodable[number], image, findings)
        if number not in named and not allow_empty:
            findings.add(
                'images without a detection',
                f'image {number} ({image["file_name"]}): no detection; if it may hold no cell, use --allow-empty',
            )
    _check_boxes(boxed, findings)


def _where(index: int, entry: dict) -> str:
    return f'entry {index}, image {reprlib.repr(entry.get("image_id"))}'


# The checks of single values return the kind of problem and a message about the value, or None for a good value.


def _wrong_image_id(value: object, by_id: dict) -> tuple | None:
    if type(value) is not int:
        return 'image_id that is not a whole number', f'is a JSON {kind_of(value)}, expected a whole number'
    if value not in by_id:
        return 'image_id that is not listed', f'is not listed, expected one of {min(by_id)} to {max(by_id)}'
    return None


def _wrong_category(value: object, num_classes: int) -> tuple | None:
    if type(value) is int and 1 <= value <= num_classes:
        return None
    return 'category_id out of range', f'is {reprlib.repr(value)}, expected a whole number from 1 to {num_classes}'


def _wrong_score(value: object) -> tuple | None:
    if is_number(value) and 0 <= value <= 1:
        return None
    return 'score out of range', f'is {reprlib.repr(value)}, expected a number from 0 to 1'


def _wrong_box(value: object, image: dict | None) -> tuple | None:
    if not is_box(value):
        return 'bbox that is not 4 numbers', f'is {reprlib.repr(value)}, expected 4 finite numbers [x, y, w, h]'
    x, y, w, h = value
    if w <= 0 or h <= 0:
        return 'bbox without an area', f'is {reprlib.repr(value)}, expected w and h above 0 in [x, y, w, h]'
    if image and (min(x, y) < -BORDER or x + w > image['width'] + BORDER or y + h > image['height'] + BORDER):
        expected = f'expected [x, y, w, h] within {image["width"]}x{image["height"]} px (width x height)'
        return 'bbox outside the image', f'is {reprlib.repr(value)}, {expected}'
    return None


def _wrong_segmentation(value: object, image: dict | None) -> tuple | None:
    if not isinstance(value, dict) or not {'size', 'counts'} <= value.keys():
        hint = ' (polygons?)' if isinstance(value, list) else ''
        return (
            'segmentation of another form',
            f'is a JSON {kind_of(value)}{hint}, expected an object {{"size": [H, W], "counts": "..."}}',
        )
    size, counts = value['size'], value['counts']
    if isinstance(counts, list):
        return 'uncompressed counts', 'has counts as a list, expected a text: compress by pycocotools.mask.frPyObjects'
    if not isinstance(counts, str):
        return 'counts that are not text', f'has counts as a JSON {kind_of(counts)}, expected a text'
    if image is None:
        return None
    expected = [image['height'], image['width']]
    if size == expected and all(type(side) is int for side in size):
        return None
    if size == expected[::-1]:
        return 'size as [W, H]', f'has size {size}, which is [W, H], expected [H, W]: {expected}'
    return "size other than the image's", f'has size {reprlib.repr(size)}, expected [H, W]: {expected}'


def _check_masks(entries: list, image: dict, findings: Findings) -> list:
    """Decode the masks of an image, given as (index, entry).

    Returns:
        list[tuple]: (index, entry, [x1, y1, x2, y2) of the mask) of the masks that have a pixel.
    """
    codes = [entry['segmentation'] for _, entry in entries]
    broken = _broken_codes(codes)
    for place, reason in broken.items():
        hint = '; str() of bytes? use counts.decode()' if codes[place]['counts'].startswith("b'") else ''
        findings.add(
            'broken run-length codes', f'{_where(*entries[place])}: segmentation does not decode: {reason}{hint}'
        )
    kept = [place for place in range(len(codes)) if place not in broken]
    boxes = decode_runs([codes[place] for place in kept]).boxes(len(kept), image['height'])
    boxed = []
    for place, box in zip(kept, boxes.tolist(), strict=True):
        if any(box):
            boxed.append((*entries[place], box))
        else:
            findings.add('empty masks', f'{_where(*entries[place])}: segmentation has no pixel; leave it out')
    return boxed


def _check_boxes(boxed: list, findings: Findings) -> None:
    """Compare boxes with those of the masks, given as (index, entry, [x1, y1, x2, y2])."""
    boxed = [row for row in boxed if 'bbox' in row[1] and not _wrong_box(row[1]['bbox'], None)]
    boxes = np.array([entry['bbox'] for _, entry, _ in boxed], np.float64).reshape(-1, 4)
    boxes_of_masks = np.array([box for _, _, box in boxed], np.float64).reshape(-1, 4)
    iou = _aligned_iou(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), boxes_of_masks)
    iou_as_corners = _aligned_iou(boxes, boxes_of_masks)
    # decided over the whole file: near the image's origin the two forms differ little, and a poor mask may fit either
    fits, fits_as_corners = (iou > 0.5) & (iou_as_corners < 0.5), (iou < 0.5) & (iou_as_corners > 0.5)
    if fits_as_corners.sum() > fits.sum():
        index, entry, _ = boxed[np.argmax(fits_as_corners)]
        findings.add(
            'bbox of two corners',
            f'{_where(index, entry)}: bbox {entry["bbox"]} fits the mask as [x1, y1, x2, y2], and so do '
            f'{fits_as_corners.sum():,} of {len(boxed):,} boxes; expected [x, y, w, h]',
        )
        return
    for place in np.flatnonzero(iou == 0):
        index, entry, (x1, y1, x2, y2) = boxed[place]
        findings.add(
            'bbox away from the mask',
            f'{_where(index, entry)}: bbox {entry["bbox"]} does not touch the mask, whose box is '
            f'{[x1, y1, x2 - x1, y2 - y1]}; is the mask encoded column by column?',
        )


def _aligned_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) IoU of pairs of (N, 4) boxes [x1, y1, x2, y2)."""
    tensors = (torch.as_tensor(values, dtype=torch.float64) for values in (boxes, others))
    return bbox_overlaps(*tensors, is_aligned=True).numpy()


def _broken_codes(codes: list) -> dict:
    """By index, the reason why a code does not decode. Parts are decoded until the broken codes are alone."""
    try:
        decode_runs(codes)
        return {}
    except ValueError as error:
        if len(codes) == 1:
            return {0: str(error).removeprefix('code 0: ')}
    size = -(-len(codes) // 16)
    broken = {}
    for start in range(0, len(codes), size):
        part = _broken_codes(codes[start : start + size])
        broken |= {start + place: reason for place, reason in part.items()}
    return broken


def _repeated(results: list) -> list:
    """Lines about detections that repeat another."""
    findings, first = Findings(), {}
    for index, entry in enumerate(results):
        key = entry['image_id'], entry['category_id'], entry['segmentation']['counts']
        if first.setdefault(key, index) != index:
            findings.add('repeated detections', f'{_where(index, entry)}: same class and mask as entry {first[key]}')
    return findings.shown()
