"""The task's submission: a zip with ``test-results.json``, COCO results of all test images. Here it is written, checked
and scored.

``test_image_name_to_ids.json`` lists the test images: file_name, id, height and width of each.
"""

import json
import reprlib
import zipfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps
from pycocotools import mask as mask_utils
from tqdm import tqdm

from cellseg_mm.datasets.formats.task import read_image
from cellseg_mm.structures import Runs, decode_runs
from cellseg_mm.utils import UserError, read_json, write_atomically

from .average_precision import average_precision
from .coco_results import is_box, is_number

MEMBER = 'test-results.json'
# A thousand detections in each of 100 images take some 30 MB; a few kB of zip can claim to hold terabytes.
MAX_BYTES = 2**30
# Of each kind of problem.
MAX_LINES = 3
# px by which a box may pass the border: some count the last pixel in, and floats are rounded.
BORDER = 1


class Report(NamedTuple):
    """What a check found.

    Attributes:
        results: The detections, as far as the file could be read.
        problems: Lines that say what is wrong where, and what is expected; none for a good file.
        warnings: Likewise, of what is legal but odd in a good file.
    """

    results: list
    problems: list
    warnings: list


class _Findings:
    """Lines by kind, of which the first few are shown."""

    def __init__(self) -> None:
        self._lines = defaultdict(list)

    def add(self, kind: str, line: str) -> None:
        self._lines[kind].append(line)

    def shown(self) -> list:
        shown = []
        for kind, lines in self._lines.items():
            shown += lines[:MAX_LINES]
            if len(lines) > MAX_LINES:
                shown.append(f'... and {len(lines) - MAX_LINES:,} more: {kind}')
        return shown


def read_image_list(path: Path) -> list:
    """The test images of ``test_image_name_to_ids.json``.

    Returns:
        list[dict]: file_name, id, height and width (px) of each.

    Raises:
        UserError: If it is missing or not such a list.
    """
    content = read_json(path, 'the task gives it as test_image_name_to_ids.json')
    if not isinstance(content, list):
        raise UserError(f'{path}: is no list of test images')
    check_image_entries(content, path)
    return content


def check_image_entries(images: list, path: Path) -> None:
    """Make sure that images have file_name, id, height and width, and ids of their own.

    Raises:
        UserError: Naming the first that has not, or if there is none.
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
        raise UserError(f'{path}: {count} images have the id {number}; each needs an id of its own')


def write_test_set(images: list, source: Path, order: str, classes: Sequence, out: Path) -> None:
    """Write what a test dataloader reads: ``out/images/ID.png`` in true RGB, ``out/annotations.json`` without a cell.

    Args:
        images (list[dict]): See :func:`read_image_list`.
        source (Path): The folder of their files.
        order (str): Channel order of the files: ``'rgb'`` or ``'bgr'``.
        classes (Sequence[str]): Names of class 1, 2, ...
        out (Path): A folder.

    Raises:
        UserError: If files are missing, are no images or not of the listed size.
    """
    missing = [image['file_name'] for image in images if not (source / image['file_name']).is_file()]
    if missing:
        named = ', '.join(missing[:MAX_LINES]) + (', ...' if len(missing) > MAX_LINES else '')
        raise UserError(f'{source}: {len(missing)} of the {len(images)} listed images are not in it: {named}')
    (out / 'images').mkdir(parents=True)
    entries = []
    for image in tqdm(images, desc='reading images', unit='image'):
        path, expected = source / image['file_name'], (image['height'], image['width'])
        pixels = read_image(path)
        if pixels.shape[:2] != expected:
            found = f'{pixels.shape[1]}x{pixels.shape[0]}'
            raise UserError(f'{path}: {found} px (width x height), but {expected[1]}x{expected[0]} are listed')
        entries.append(dict(image, file_name=f'{image["id"]}.png'))
        target = out / 'images' / entries[-1]['file_name']
        # OpenCV takes BGR
        if not cv2.imwrite(str(target), np.ascontiguousarray(pixels[..., ::-1] if order == 'rgb' else pixels)):
            raise UserError(f'{target}: cannot be written (disk full?)')
    categories = [dict(id=number, name=name) for number, name in enumerate(classes, start=1)]
    content = dict(images=entries, annotations=[], categories=categories)
    (out / 'annotations.json').write_text(json.dumps(content), encoding='utf-8')


def write_submission(path: Path, results: list) -> int:
    """Write the zip, without detections that have no pixel or a box without an area: they can match nothing.

    Args:
        path (Path): The zip.
        results (list[dict]): See :func:`encode_predictions`; codes are whole.

    Returns:
        int: Number of detections left out.
    """
    kept = [entry for entry in results if mask_utils.area(entry['segmentation']) and min(entry['bbox'][2:]) > 0]
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, json.dumps(kept, allow_nan=False))
    write_atomically(path, buffer.getvalue())
    return len(results) - len(kept)


def check_submission(path: Path, images: list, num_classes: int, allow_empty: bool = False) -> Report:
    """All that is wrong with a submission.

    Args:
        path (Path): The zip.
        images (list[dict]): See :func:`read_image_list`.
        num_classes (int): Categories are 1 to this.
        allow_empty (bool): Whether images may have no detection.

    Raises:
        UserError: If there is no such file.
    """
    findings = _Findings()
    results = _read_results(Path(path), findings)
    if results is not None:
        _check_results(results, images, num_classes, allow_empty, findings)
    problems = findings.shown()
    return Report(results or [], problems, [] if problems else _repeated(results))


def _read_results(path: Path, findings: _Findings) -> list | None:
    """The list in the zip; None where it cannot be read."""
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    text = _read_member(path, findings)
    if text is None:
        return None
    constants = []
    try:
        content = json.loads(text, parse_constant=lambda name: constants.append(name) or float(name))
    except (ValueError, RecursionError) as error:
        findings.add('broken JSON', f'{MEMBER}: broken JSON ({error}); write it by a JSON library')
        return None
    if constants:
        findings.add(
            'no JSON number',
            f'{MEMBER}: holds {len(constants):,} times {" or ".join(sorted(set(constants)))}, which JSON has no number '
            'for; leave such detections out',
        )
    if not isinstance(content, list):
        hint = f' with {reprlib.repr(sorted(content))}' if isinstance(content, dict) else ''
        findings.add(
            'no list',
            f'{MEMBER}: is a JSON {_kind(content)}{hint}, expected one flat list of detections [{{...}}, ...]',
        )
        return None
    return content


def _read_member(path: Path, findings: _Findings) -> bytes | None:
    """The bytes of ``test-results.json``; None where they cannot be read."""
    if not zipfile.is_zipfile(path):
        with open(path, 'rb') as file:
            start = file.read(16)
        if start.startswith(b'PK'):
            findings.add('damaged zip', f'{path}: the zip is cut off, its table of contents is missing; copy it again')
        else:
            findings.add('no zip', f'{path}: is no zip file, it starts with {start!r}; put {MEMBER} into a zip')
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if MEMBER not in names:
                findings.add('no member', f'{path}: no {MEMBER} at its top; it holds {_listed(names)}')
                return None
            size = archive.getinfo(MEMBER).file_size
            if size > MAX_BYTES:
                findings.add(
                    'implausible size',
                    f'{path}: {MEMBER} would unpack to {size:,} bytes, more than {MAX_BYTES:,}; it is not unpacked',
                )
                return None
            with archive.open(MEMBER) as member:
                return member.read(size)  # not all there is: the table of contents may understate it
    except Exception as error:  # a damaged zip raises many kinds
        findings.add('damaged zip', f'{path}: the zip is damaged ({error}); write or copy it again')
        return None


def _listed(names: list) -> str:
    more = f' and {len(names) - MAX_LINES} more' if len(names) > MAX_LINES else ''
    return ', '.join(map(str, names[:MAX_LINES])) + more or 'nothing'


def _check_results(results: list, images: list, num_classes: int, allow_empty: bool, findings: _Findings) -> None:
    by_id = {image['id']: image for image in images}
    checks = dict(
        image_id=lambda value, image: _wrong_image_id(value, by_id),
        category_id=lambda value, image: _wrong_category(value, num_classes),
        score=lambda value, image: _wrong_score(value),
        bbox=_wrong_box,
        segmentation=_wrong_segmentation,
    )
    decodable = {number: [] for number in by_id}  # of each image, (index, entry) where the code can be looked at
    named = set()
    for index, entry in enumerate(results):
        if not isinstance(entry, dict):
            findings.add('no object', f'entry {index}: is a JSON {_kind(entry)}, expected an object {{...}}')
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
                f'image {number} ({image["file_name"]}): has no detection; if it may hold no cell, use --allow-empty',
            )
    _check_boxes(boxed, findings)


def _where(index: int, entry: dict) -> str:
    return f'entry {index}, image {reprlib.repr(entry.get("image_id"))}'


# The checks of single values return the kind of problem and what to say of the value, or None for a good one.


def _wrong_image_id(value: object, by_id: dict) -> tuple | None:
    if type(value) is not int:
        return 'image_id that is no whole number', f'is a JSON {_kind(value)}, expected a whole number'
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
            f'is a JSON {_kind(value)}{hint}, expected an object {{"size": [H, W], "counts": "..."}}',
        )
    size, counts = value['size'], value['counts']
    if isinstance(counts, list):
        return 'uncompressed counts', 'has counts as a list, expected a text: compress by pycocotools.mask.frPyObjects'
    if not isinstance(counts, str):
        return 'counts that are no text', f'has counts as a JSON {_kind(counts)}, expected a text'
    if image is None:
        return None
    expected = [image['height'], image['width']]
    if size == expected and all(type(side) is int for side in size):
        return None
    if size == expected[::-1]:
        return 'size as [W, H]', f'has size {size}, which is [W, H], expected [H, W]: {expected}'
    return "size other than the image's", f'has size {reprlib.repr(size)}, expected [H, W]: {expected}'


def _check_masks(entries: list, image: dict, findings: _Findings) -> list:
    """Decode the masks of an image, given as (index, entry).

    Returns:
        list[tuple]: (index, entry, [x1, y1, x2, y2) of the mask) of those that have a pixel.
    """
    codes = [entry['segmentation'] for _, entry in entries]
    broken = _broken_codes(codes)
    for place, reason in broken.items():
        hint = '; str() of bytes? use counts.decode()' if codes[place]['counts'].startswith("b'") else ''
        findings.add(
            'broken run-length codes', f'{_where(*entries[place])}: segmentation does not decode: {reason}{hint}'
        )
    kept = [place for place in range(len(codes)) if place not in broken]
    boxes = _mask_boxes(decode_runs([codes[place] for place in kept]), len(kept), image['height'])
    boxed = []
    for place, box in zip(kept, boxes.tolist(), strict=True):
        if any(box):
            boxed.append((*entries[place], box))
        else:
            findings.add('empty masks', f'{_where(*entries[place])}: segmentation has no pixel; leave it out')
    return boxed


def _check_boxes(boxed: list, findings: _Findings) -> None:
    """Hold boxes against those of the masks, given as (index, entry, [x1, y1, x2, y2])."""
    boxed = [row for row in boxed if 'bbox' in row[1] and not _wrong_box(row[1]['bbox'], None)]
    boxes = np.array([entry['bbox'] for _, entry, _ in boxed], np.float64).reshape(-1, 4)
    mask_boxes = np.array([box for _, _, box in boxed], np.float64).reshape(-1, 4)
    iou = _aligned_iou(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), mask_boxes)
    iou_as_corners = _aligned_iou(boxes, mask_boxes)
    # judged over the whole file: near the image's origin the two forms differ little, and a poor mask may fit either
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


def _broken_codes(codes: list) -> dict:
    """The reason of each code that does not decode, by its place: parts are decoded until the broken ones are alone."""
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


def _mask_boxes(runs: Runs, num_instances: int, height: int) -> np.ndarray:
    """(N, 4) int64 boxes [x1, y1, x2, y2) in px; zeros for an instance without a pixel."""
    last = runs.start + runs.length - 1
    x1, x2 = runs.start // height, last // height + 1
    whole_column = x2 - x1 > 1
    y1, y2 = np.where(whole_column, 0, runs.start % height), np.where(whole_column, height, last % height + 1)
    boxes = np.zeros((num_instances, 4), np.int64)
    owners, first = np.unique(runs.owner, return_index=True)
    if len(owners):
        ends = [np.minimum.reduceat(x1, first), np.minimum.reduceat(y1, first)]
        ends += [np.maximum.reduceat(x2, first), np.maximum.reduceat(y2, first)]
        boxes[owners] = np.stack(ends, axis=1)
    return boxes


def _aligned_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) IoU of (N, 4) boxes [x1, y1, x2, y2) in pairs."""
    tensors = (torch.as_tensor(values, dtype=torch.float64) for values in (boxes, others))
    return bbox_overlaps(*tensors, is_aligned=True).numpy()


def _kind(value: object) -> str:
    """JSON's word for the type of a value."""
    kinds = {dict: 'object', list: 'list', str: 'text', bool: 'boolean', type(None): 'null'}
    return kinds.get(type(value), 'number')


def _repeated(results: list) -> list:
    """Lines on detections that repeat another."""
    findings, first = _Findings(), {}
    for index, entry in enumerate(results):
        key = entry['image_id'], entry['category_id'], entry['segmentation']['counts']
        if first.setdefault(key, index) != index:
            findings.add(
                'repeated detections', f'{_where(index, entry)}: has the class and the mask of entry {first[key]}'
            )
    return findings.shown()


def score_results(results: list, ground_truth: dict) -> tuple:
    """Mask average precision with no cap on detections, and what a cap of 100 an image and class makes of it.

    Args:
        results (list[dict]): Of a submission without problems.
        ground_truth (dict): COCO content.

    Returns:
        tuple: Rows (name, AP50, AP50 capped, mAP, mAP capped) of all classes and each class, nan without ground truth;
        and the largest number of detections of an image and class.
    """
    counts = Counter((entry['image_id'], entry['category_id']) for entry in results)
    largest = max(counts.values(), default=0)
    caps = (100, max(largest, 101))
    precision = average_precision(ground_truth, results, 'segm', max_dets=caps)
    classes = [category['name'] for category in ground_truth['categories']]
    names = [('all classes', None), *((name, label) for label, name in enumerate(classes))]
    figures = [(thr, cap) for thr in (0.5, None) for cap in caps[::-1]]
    rows = [[name, *(precision.mean(cap, thr, label) for thr, cap in figures)] for name, label in names]
    return rows, largest
