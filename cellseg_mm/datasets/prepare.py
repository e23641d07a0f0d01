"""From labelled images in any format to a prepared data set.

::

    OUT/images/NAME.png                     # true RGB
    OUT/instances/NAME.tif                  # id layers, see cellseg_mm.structures.write_layers
    OUT/annotations/{train,val,test}.json   # COCO; "instance_id" of an annotation is its id in the image's map
    OUT/statistics.json
    OUT/source.json                         # its source, see .source_state
"""

import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cellseg_mm.images import check_pixel_size, is_same_size
from cellseg_mm.structures import encode_instances, instance_extents, write_layers
from cellseg_mm.utils import UserError, claimed

from .formats import Instances, Sample, find_format
from .formats.geojson import PART_NOTES
from .formats.sample import labels_file, plain_name
from .source_state import is_prepared, record_source
from .splits import SPLITS, group_names, read_splits, stratified_split
from .stain import channel_order, label_correlation, misplaced_labels, stain_difference

FOLDERS = ('images', 'instances', 'annotations')
WRITTEN = (*FOLDERS, 'statistics.json', 'source.json')
JUNK = ('.DS_Store', '.directory', 'Thumbs.db', 'desktop.ini')  # which file managers leave behind
MISPLACED_NOTE = 'cells that look like their surroundings: do these labels belong to this image, in its px?'
# The largest share of the pixels of a split's labelled images in ignored regions.
MAX_IGNORED = 0.95
# Of a file name without its ending, in bytes; file systems allow 255, endings included.
MAX_NAME = 200


def prepare(
    src: Path,
    out: Path,
    classes: tuple | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    order: str = 'auto',
    workers: int | None = None,
    source_format: str = 'auto',
    groups: str | None = None,
    part: str = 'cell',
    splits: Path | None = None,
    pixel_size: float | None = None,
) -> dict:
    """Convert ``src`` into the prepared data set ``out``, which appears whole or not at all; it replaces an older one.

    If ``out`` is a link, the data set is written to its target.

    Args:
        src (Path): A folder, or a JSON file, in one of the formats of :mod:`cellseg_mm.datasets.formats`.
        out (Path): The prepared data set: new, empty, or an older prepared data set with nothing else in it.
        classes (tuple[str] | None): Names of classes 1, 2, ...; those of the format if None.
        val_fraction (float): Share of the training images that go to validation, above 0 and below 1, if the source has
            no validation images.
        seed (int): Of the split.
        order (str): Channel order of the files: ``'rgb'``, ``'bgr'`` or ``'auto'`` (found from the stain).
        workers (int | None): Number of processes; one per processor if None.
        source_format (str): Of :data:`cellseg_mm.datasets.formats.FORMATS`, or ``'auto'``.
        groups (str | None): Rule for images that stay on one side of the split, see :func:`group_names`; if None, the
            patients if the format names them (MoNuSAC), else each image is its own group.
        part (str): ``'cell'`` or ``'nucleus'``, where both have an outline (QuPath).
        splits (Path | None): A table of the splits, see :func:`read_splits`, in place of those of the folders.
        pixel_size (float | None): Micrometres a px of all images; if None, what the files say, see
            :func:`common_pixel_size`.

    Returns:
        dict: The content of ``statistics.json``.

    Raises:
        UserError: For input that cannot be converted, or an ``out`` that holds ``src`` or foreign files, or that
            another process writes.
    """
    src, out = Path(src), Path(out).resolve()
    if not 0 < val_fraction < 1:
        raise UserError(f'--val-fraction {val_fraction}: must be above 0 and below 1')
    if pixel_size is not None:
        check_pixel_size(pixel_size)
    _check_replaceable(out)
    if out in (src.resolve(), *src.resolve().parents):
        raise UserError(f'{src}: is in {out}, which would be replaced; choose another --out')
    samples, classes = find_format(src, source_format).find_samples(src, classes)
    plain = [plain_name(name) for name in classes]
    if not all(plain):
        raise UserError(f'{src}: a class without a name; see --classes')
    alike = next((name for name in plain if plain.count(name) > 1), None)
    if alike is not None:
        same = ', '.join(repr(name) for name in classes if plain_name(name) == alike)
        raise UserError(
            f'{src}: classes {same}: each needs its own name, in which case and spaces do not count; see --classes'
        )
    if splits is not None:
        samples = _assign_splits(src, samples, splits)
    if groups is not None:
        named = group_names([sample.name for sample in samples], groups)
        samples = [replace(sample, group=group) for sample, group in zip(samples, named, strict=True)]
    samples = [replace(sample, part=part) for sample in with_own_names(samples)]
    _check_samples(src, samples)

    partial, old, lock = (out.with_name(f'.{out.name}.{kind}') for kind in ('partial', 'old', 'lock'))
    busy = f'{out}: another process prepares this data set; wait for it, or choose another --out'
    try:
        with claimed(lock, busy):
            shutil.rmtree(partial, ignore_errors=True)  # of a killed run
            try:
                for folder in FOLDERS:
                    (partial / folder).mkdir(parents=True)
                statistics = _convert(samples, partial, tuple(classes), val_fraction, seed, order, workers, pixel_size)
                notes = [entry['note'] for entry in statistics.get('label_notes', [])]
                if part == 'nucleus' and PART_NOTES['nucleus'] not in notes:
                    raise UserError(f'{src}: no cell has an outline of its nucleus, which --part nucleus needs')
                record_source(src, partial, [sample.image for sample in samples])
                _check_replaceable(out)  # again, because that took long
                if out.exists():
                    _remove(old)
                    out.rename(old)
                partial.rename(out)
                shutil.rmtree(old, ignore_errors=True)
            finally:
                if old.exists() and not out.exists():  # this run or a killed one ended between the two renames
                    old.rename(out)
                shutil.rmtree(partial, ignore_errors=True)
    except PermissionError as error:
        place = Path(error.filename or out)
        is_written = place in (out, old, lock, *out.parents) or partial in (place, *place.parents)
        advice = 'choose another --out' if is_written else 'make it readable'
        raise UserError(f'{place}: {error.strerror}; {advice}') from error
    return statistics


def _check_replaceable(out: Path) -> None:
    """Raise :class:`UserError` unless ``out`` is free, empty, or a prepared data set with nothing else in it."""
    if out.exists() and not out.is_dir():
        raise UserError(f'{out}: is a file; choose another --out')
    names = sorted({path.name for path in out.iterdir()} - {*JUNK}) if out.exists() else []
    foreign = [name for name in names if name not in WRITTEN]
    if names and not is_prepared(out):
        raise UserError(f'{out}: is not a prepared data set, {(foreign or names)[0]} is in it; choose another --out')
    if foreign:
        raise UserError(
            f'{out / foreign[0]}: is not part of a prepared data set and would be deleted with the old one; move it, '
            'or choose another --out'
        )


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def with_own_names(samples: list) -> list:
    """The samples; names that are in several splits, such as ``image_00``, get the split as a prefix."""
    splits = defaultdict(set)
    for sample in samples:
        splits[sample.name.casefold()].add(sample.split)
    return [
        replace(sample, name=f'{sample.split}_{sample.name}', group=sample.group or sample.name)
        if len(splits[sample.name.casefold()]) > 1
        else sample
        for sample in samples
    ]


def _assign_splits(src: Path, samples: list, path: Path) -> list:
    """The samples with the splits of a table that has one row for each image.

    Raises:
        UserError: See :func:`read_splits`; or if table and images differ, or an image without labels is not in test.
    """
    splits = read_splits(path)
    names = {sample.name for sample in samples}
    for name in sorted(names ^ splits.keys()):
        reason = f'is in {src}, but has no row' if name in names else f'has a row, but is not in {src}'
        raise UserError(f'{path}: the image {name} {reason}')
    for sample in samples:
        if sample.source is None and splits[sample.name] != 'test':
            raise UserError(f'{sample.image}: no labels, so it cannot be in {splits[sample.name]}, as {path} says')
    return [replace(sample, split=splits[sample.name]) for sample in samples]


def _check_samples(src: Path, samples: list) -> None:
    """Raise :class:`UserError` for repeated or too long names, repeated ids, or too few training images."""
    places = {}
    for sample in samples:
        if len(sample.name.encode()) > MAX_NAME:
            raise UserError(f'{sample.image}: the name is too long; at most {MAX_NAME} bytes without its ending')
        other = places.setdefault(sample.name.casefold(), sample)  # some file systems ignore case
        if other is not sample:
            raise UserError(f'{sample.image}: the name {sample.name} is in {other.split}/ too; rename one of them')
    ids = Counter(sample.image_id for sample in samples if sample.image_id is not None)
    for number, count in ids.most_common(1):
        if count > 1:
            both = ', '.join(sample.name for sample in samples if sample.image_id == number)
            raise UserError(f'{src}: the images {both} have the same id {number}; give each its own')
    has_val = any(sample.split == 'val' for sample in samples)
    count, needed = sum(sample.split == 'train' for sample in samples), 1 if has_val else 2
    if count < needed:
        why = '' if has_val else ' (training and validation)'
        raise UserError(f'{src}: {count} labelled training images found, at least {needed} needed{why}')


def _convert(
    samples: list,
    out: Path,
    classes: tuple,
    val_fraction: float,
    seed: int,
    order: str,
    workers: int | None,
    pixel_size: float | None,
) -> dict:
    """Write all files of the data set into ``out`` and return its statistics."""
    tasks = [(sample, order, out, len(classes)) for sample in samples]
    labels = _parallel(convert_sample, tasks, workers, 'converting')
    reason = 'as given'
    if order == 'auto':
        order, reason = channel_order([label['stain_difference'] for label in labels if label['split'] == 'train'])
        # each was written in the order that its own stain shows; the whole data set decides
        tasks = [(sample, order, out) for sample, label in zip(samples, labels, strict=True) if label['order'] != order]
        _parallel(_rewrite_image, tasks, workers, 'exchanging red and blue')

    counts = np.array([np.bincount(label['labels'], minlength=len(classes) + 1)[1:] for label in labels])
    ignored, left_out = (np.array([label[key] for label in labels]) for key in ('ignored', 'left_out'))
    splits = np.array([sample.split for sample in samples])
    train = np.flatnonzero(splits == 'train')
    groups = np.array([sample.group or sample.name for sample in samples])
    if 'val' not in splits:
        splits[train[stratified_split(counts[train], val_fraction, seed, groups[train])]] = 'val'

    _check_ignored(labels, splits)
    if not counts[splits == 'train'].any():
        first = labels_file(samples[train[0]])
        raise UserError(f'{first}: no cell, nor in the labels of the other training images: nothing to learn')
    ids = _image_ids(samples)
    for split in SPLITS:
        chosen = [(labels[index], ids[index]) for index in np.flatnonzero(splits == split)]
        _write_json(out / 'annotations' / f'{split}.json', _coco(chosen, classes))

    histograms = [label['histogram'] for label, split in zip(labels, splits, strict=True) if split == 'train']
    mean, std = _mean_and_std(sum(histograms), order)
    labelled = np.array([sample.source is not None for sample in samples])
    stated = [(sample.image.name, label['pixel_size']) for sample, label in zip(samples, labels, strict=True)]
    pixel_size, pixel_size_reason = common_pixel_size(stated, pixel_size)
    statistics = dict(
        classes=list(classes),
        mean=mean,
        std=std,
        channel_order=order,
        channel_order_reason=reason,
        pixel_size=pixel_size,
        pixel_size_reason=pixel_size_reason,
        images={split: int((splits == split).sum()) for split in SPLITS},
        labelled_images={split: int(labelled[splits == split].sum()) for split in SPLITS},
        instances={
            split: dict(zip(classes, counts[splits == split].sum(axis=0).tolist(), strict=True)) for split in SPLITS
        },
        ignored={split: int(ignored[splits == split].sum()) for split in SPLITS},
        left_out=int(left_out.sum()),
        groups={split: len(set(groups[splits == split])) for split in SPLITS},
        test_groups_in_training=len(set(groups[splits == 'test']) & set(groups[splits != 'test'])),
        height=_spread([label['image']['height'] for label in labels]),
        width=_spread([label['image']['width'] for label in labels]),
        val_fraction=val_fraction,
        seed=seed,
    )
    notes = _count_notes(samples, [label['note'] for label in labels])
    if notes:  # otherwise the file stays the same: an ablation identifies its data set by it
        statistics['notes'] = notes
    label_notes = _count_label_notes(samples, labels)
    if label_notes:
        statistics['label_notes'] = label_notes
    _write_json(out / 'statistics.json', statistics)
    return statistics


def common_pixel_size(stated: Sequence, given: float | None = None) -> tuple:
    """The pixel size of a data set: the given one, or what its images say if all say the same.

    Args:
        stated (Sequence[tuple]): File name and micrometres a px of each image, None where the file does not say.
        given (float | None): Micrometres a px.

    Returns:
        tuple: Micrometres a px, None if unknown, and the reason in words.
    """
    known = sorted((size, name) for name, size in stated if size)
    differing = [(size, name) for size, name in known if not is_same_size(size, given or known[0][0])]
    if given and differing:
        size, name = differing[0]
        return given, f'as given, but {len(differing)} of {len(stated)} files say otherwise, {name} {size:.4g} um'
    if given:
        return given, 'as given'
    if differing:
        return None, (
            f'{len(differing)} of {len(stated)} images differ: {known[0][1]} has {known[0][0]:.4g} um a px, '
            f'{known[-1][1]} {known[-1][0]:.4g}; cells of several sizes are learned together'
        )
    if len(known) < len(stated):
        return None, f'{len(stated) - len(known)} of {len(stated)} files do not say it; --pixel-size UM does'
    return known[len(known) // 2][0], 'as all files say'


def _count_notes(samples: list, notes: list) -> list:
    """Each different note with its number of images and the name of the first; ``''`` does not count."""
    found = {}
    for sample, note in zip(samples, notes, strict=True):
        if note:
            found.setdefault(note, dict(note=note, images=0, first=sample.image.name))['images'] += 1
    return list(found.values())


def _count_label_notes(samples: list, labels: list) -> list:
    """Each different note on labels with its numbers of objects and images, and the first file of labels."""
    found = {}
    for sample, label in zip(samples, labels, strict=True):
        for note, count in label['label_notes'].items():
            entry = found.setdefault(note, dict(note=note, objects=0, images=0, first=labels_file(sample).name))
            entry['objects'] += count
            entry['images'] += 1
    misplaced = misplaced_labels([label['correlation'] for label in labels])
    if len(misplaced):
        cells = sum(len(labels[index]['labels']) for index in misplaced)
        first = labels_file(samples[misplaced[0]]).name
        found[MISPLACED_NOTE] = dict(note=MISPLACED_NOTE, objects=cells, images=len(misplaced), first=first)
    return list(found.values())


def _check_ignored(labels: list, splits: np.ndarray) -> None:
    """Raise :class:`UserError` for a split in which almost nothing is left to score."""
    for split in SPLITS:
        chosen = [label for label, own in zip(labels, splits, strict=True) if own == split]
        ignored = sum(label['ignored_pixels'] for label in chosen)
        pixels = sum(label['labelled_pixels'] for label in chosen)
        cells = sum(len(label['labels']) for label in chosen)
        if ignored and (ignored > MAX_IGNORED * pixels or not cells):
            first = next(label for label in chosen if label['ignored_pixels'])['image']['file_name']
            raise UserError(
                f'{split}: {ignored / pixels:.1%} of its labelled images, {first} first, are marked to be ignored, and '
                f'{cells} cells are left: nothing to learn or score. Check the marks: iscrowd of COCO, classes with * '
                'of QuPath, Ambiguous of MoNuSAC'
            )


def _coco(chosen: list, classes: tuple) -> dict:
    """COCO content of one split, from (result of :func:`convert_sample`, image id) of each of its images."""
    annotations = [dict(entry, image_id=image_id) for label, image_id in chosen for entry in label['annotations']]
    return dict(
        images=[dict(label['image'], id=image_id) for label, image_id in chosen],
        annotations=[dict(entry, id=number) for number, entry in enumerate(annotations, start=1)],
        categories=[dict(id=number, name=name) for number, name in enumerate(classes, start=1)],
    )


def _spread(values: list) -> dict:
    return dict(min=min(values), median=float(np.median(values)), max=max(values))


def _image_ids(samples: list) -> list:
    """The ids of the source where it has them, other numbers elsewhere; all different."""
    given = {sample.image_id for sample in samples} - {None}
    free = (number for number in range(1, len(samples) + len(given) + 1) if number not in given)
    return [next(free) if sample.image_id is None else sample.image_id for sample in samples]


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, allow_nan=False), encoding='utf-8')


def _parallel(function: Callable, tasks: list, workers: int | None, title: str) -> list:
    """Results of ``function(*task)`` in the order of the tasks, with a progress bar; the first error stops all."""
    if not tasks:
        return []
    workers = min(workers or os.cpu_count() or 1, len(tasks))
    pool = ProcessPoolExecutor(workers, initializer=_leave_signals_to_the_parent)
    with pool, tqdm(total=len(tasks), desc=title, unit='image') as progress:
        futures = [pool.submit(function, *task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                progress.update()
        except BrokenProcessPool as error:  # scipy's reader of MAT files crashes on some damaged ones
            left = next(task for task, future in zip(tasks, futures, strict=True) if future.exception())
            raise UserError(
                f'{left[0].image}: a process died while reading this image or one of the next: a file is damaged, or '
                'memory ran out (fewer --workers need less)'
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _leave_signals_to_the_parent() -> None:
    """In a worker: Ctrl-C, which reaches all processes, is for the parent; without the parent the worker ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def convert_sample(sample: Sample, order: str, out: Path, num_classes: int) -> dict:
    """Write image and id map; return its COCO entries and what the whole data set is judged by.

    With order ``'auto'`` the image is written in the order that its own stain shows; the result holds that order.

    Raises:
        UserError: If the image or its labels cannot be read, or do not fit each other.
    """
    image, note, pixel_size = sample.read_image()
    height, width = image.shape[:2]
    entry = dict(file_name=f'{sample.name}.png', height=height, width=width)
    result = dict(split=sample.split, image=entry, annotations=[], labels=np.zeros(0, int), ignored=0, left_out=0)
    result.update(label_notes={}, ignored_pixels=0, labelled_pixels=0, correlation=())
    difference = None
    if sample.source is not None:
        instances = sample.read_labels((height, width))
        entry['instance_map'] = f'{sample.name}.tif'
        write_layers(out / 'instances' / entry['instance_map'], instances.layers)
        in_cells = instances.layers.any(axis=0)
        difference = stain_difference(image, in_cells)
        result.update(
            annotations=_annotations(instances, num_classes),
            labels=instances.labels[~instances.is_ignored],
            ignored=int(instances.is_ignored.sum()),
            left_out=instances.left_out,
            label_notes=instances.notes,
            ignored_pixels=_count_ignored(instances),
            labelled_pixels=height * width,
            correlation=label_correlation(image, in_cells),
        )
    order = channel_order([difference])[0] if order == 'auto' else order
    _write_image(out / 'images' / entry['file_name'], image, order)
    histogram = np.stack([cv2.calcHist([image], [channel], None, [256], [0, 256])[:, 0] for channel in range(3)])
    result.update(stain_difference=difference, order=order, histogram=histogram.astype(np.int64))
    return dict(result, note=note, pixel_size=pixel_size)


def _count_ignored(instances: Instances) -> int:
    """Number of pixels in ignored regions and not in a cell."""
    is_ignored = np.append(False, instances.is_ignored)
    if not is_ignored.any():
        return 0
    in_cell = (~is_ignored[instances.layers] & (instances.layers > 0)).any(axis=0)
    return int(np.count_nonzero(is_ignored[instances.layers].any(axis=0) & ~in_cell))


def _annotations(instances: Instances, num_classes: int) -> list:
    """COCO entries of one image. A region of every class has one for each, since average precision is by class."""
    count = len(instances.labels)
    codes, boxes, areas = [None] * count, np.zeros((count, 4), int), np.zeros(count, int)
    for layer in instances.layers:
        layer_boxes, layer_areas = instance_extents(layer, np.arange(1, count + 1))
        layer_codes = encode_instances(layer, count)
        for index in np.flatnonzero(layer_areas):
            codes[index] = layer_codes[index]
        boxes += layer_boxes
        areas += layer_areas
    annotations = []
    for index, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        label = int(instances.labels[index])
        annotations += [
            dict(
                category_id=category,
                bbox=[x1, y1, x2 - x1, y2 - y1],
                area=int(areas[index]),
                segmentation=codes[index],
                iscrowd=int(instances.is_ignored[index]),
                instance_id=index + 1,
            )
            for category in ([label] if label else range(1, num_classes + 1))
        ]
    return annotations


def _rewrite_image(sample: Sample, order: str, out: Path) -> None:
    _write_image(out / 'images' / f'{sample.name}.png', sample.read_image()[0], order)


def _write_image(path: Path, image: np.ndarray, order: str) -> None:
    """Write (H, W, 3) uint8 in the given order as true RGB."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if order == 'rgb' else image  # as OpenCV takes it
    try:
        # cv2.imwrite() does not see that the disk is full if the file is small
        path.write_bytes(cv2.imencode('.png', bgr)[1])
    except OSError as error:
        error.filename = str(path)  # a failed write does not say which file
        raise


def _mean_and_std(histogram: np.ndarray, order: str) -> tuple:
    """Mean and standard deviation of R, G and B from (3, 256) counts of grey levels a channel of the file."""
    histogram = histogram if order == 'rgb' else histogram[::-1]
    pixels, levels = histogram[0].sum(), np.arange(256)
    mean = histogram @ levels / pixels
    std = np.sqrt(histogram @ levels**2 / pixels - mean**2)
    return mean.round(4).tolist(), std.round(4).tolist()
