"""From the task's layout to what training reads.

::

    OUT/images/NAME.png                     # true RGB
    OUT/instances/NAME.tif                  # id layers, see cellseg_mm.structures.write_layers
    OUT/annotations/{train,val,test}.json   # COCO; annotation k of an image has "instance_id" k in its map
    OUT/statistics.json
"""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cellseg_mm.structures import encode_instances, instance_extents, write_layers
from cellseg_mm.utils import UserError

from .class_folders import Sample, find_samples, read_image, read_instances
from .source_state import record_source
from .splits import stratified_split
from .stain import channel_order, stain_difference

CLASSES = ('epithelial', 'lymphocyte', 'neutrophil', 'macrophage')
SPLITS = ('train', 'val', 'test')


def prepare(
    src: Path,
    out: Path,
    classes: tuple = CLASSES,
    val_fraction: float = 0.2,
    seed: int = 0,
    order: str = 'auto',
    workers: int | None = None,
) -> dict:
    """Convert ``src`` into the prepared set ``out``, which appears whole or not at all; an older one is replaced.

    Args:
        src (Path): A folder in the layout of :mod:`cellseg_mm.datasets.class_folders`.
        out (Path): The prepared set: new, empty or an older prepared set.
        classes (tuple[str]): Names of class 1, 2, ...
        val_fraction (float): Share of the training images that go to validation, above 0 and below 1.
        seed (int): Of the split.
        order (str): Channel order of the files: ``'rgb'``, ``'bgr'`` or ``'auto'`` (told from the stain).
        workers (int | None): Processes; as many as processors if None.

    Returns:
        dict: What was written to ``statistics.json``.

    Raises:
        UserError: For input that cannot be converted, naming the file.
    """
    src, out = Path(src), Path(out).absolute()
    if not 0 < val_fraction < 1:
        raise UserError(f'--val-fraction {val_fraction}: must be above 0 and below 1')
    if len(set(classes)) != len(classes) or not classes:
        raise UserError(f'--classes {" ".join(classes)}: each class needs a name of its own')
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / 'statistics.json').exists())):
        raise UserError(f'{out}: exists and is not a prepared set; choose another --out')
    samples = find_samples(src, len(classes))

    partial, old = (out.with_name(f'.{out.name}.{kind}') for kind in ('partial', 'old'))
    shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
    try:
        for folder in ('images', 'instances', 'annotations'):
            (partial / folder).mkdir(parents=True)
        statistics = _convert(samples, partial, tuple(classes), val_fraction, seed, order, workers)
        record_source(src, partial)
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return statistics


def _convert(
    samples: list, out: Path, classes: tuple, val_fraction: float, seed: int, order: str, workers: int | None
) -> dict:
    """Write all files of the set into ``out``; return its statistics."""
    labels = _parallel(_convert_labels, [(sample, out) for sample in samples], workers, 'reading labels')
    reason = 'as given'
    if order == 'auto':
        order, reason = channel_order([label['stain_difference'] for label in labels if label['split'] == 'train'])
    tasks = [(sample, order, out) for sample in samples]
    sums = np.array(_parallel(_convert_image, tasks, workers, 'writing images'))

    counts = np.array([np.bincount(label['labels'], minlength=len(classes) + 1)[1:] for label in labels])
    splits = np.array([sample.split for sample in samples])
    train = np.flatnonzero(splits == 'train')
    splits[train[stratified_split(counts[train], val_fraction, seed)]] = 'val'

    ids = _image_ids(samples)
    for split in SPLITS:
        chosen = [(labels[index], ids[index]) for index in np.flatnonzero(splits == split)]
        _write_json(out / 'annotations' / f'{split}.json', _coco(chosen, classes))

    pixels, *moments = sums[splits == 'train'].sum(axis=0)
    mean, mean_square = np.reshape(moments, (2, 3)) / pixels
    labelled = np.array([sample.masks is not None for sample in samples])
    statistics = dict(
        classes=list(classes),
        mean=mean.round(4).tolist(),
        std=np.sqrt(mean_square - mean**2).round(4).tolist(),
        channel_order=order,
        channel_order_reason=reason,
        images={split: int((splits == split).sum()) for split in SPLITS},
        labelled_images={split: int(labelled[splits == split].sum()) for split in SPLITS},
        instances={
            split: dict(zip(classes, counts[splits == split].sum(axis=0).tolist(), strict=True)) for split in SPLITS
        },
        height=_spread([label['image']['height'] for label in labels]),
        width=_spread([label['image']['width'] for label in labels]),
        val_fraction=val_fraction,
        seed=seed,
    )
    _write_json(out / 'statistics.json', statistics)
    return statistics


def _coco(chosen: list, classes: tuple) -> dict:
    """COCO content of one split, from (what :func:`_convert_labels` gave, image id) for each of its images."""
    annotations = [dict(entry, image_id=image_id) for label, image_id in chosen for entry in label['annotations']]
    return dict(
        images=[dict(label['image'], id=image_id) for label, image_id in chosen],
        annotations=[dict(entry, id=number) for number, entry in enumerate(annotations, start=1)],
        categories=[dict(id=number, name=name) for number, name in enumerate(classes, start=1)],
    )


def _spread(values: list) -> dict:
    return dict(min=min(values), median=float(np.median(values)), max=max(values))


def _image_ids(samples: list) -> list:
    """The source's ids where it gives them, other numbers elsewhere; unique over the set."""
    given = {sample.image_id for sample in samples} - {None}
    free = (number for number in range(1, len(samples) + len(given) + 1) if number not in given)
    return [next(free) if sample.image_id is None else sample.image_id for sample in samples]


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, allow_nan=False), encoding='utf-8')


def _parallel(function: Callable, tasks: list, workers: int | None, title: str) -> list:
    """Results of ``function(*task)`` in the order of the tasks, with a progress bar; the first error ends it."""
    workers = min(workers or os.cpu_count() or 1, len(tasks))
    with ProcessPoolExecutor(workers) as pool, tqdm(total=len(tasks), desc=title, unit='image') as progress:
        futures = [pool.submit(function, *task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                progress.update()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _convert_labels(sample: Sample, out: Path) -> dict:
    """Write the instance map of one image; return its COCO entries and what the whole set is judged by."""
    image = read_image(sample.image)
    height, width = image.shape[:2]
    entry = dict(file_name=f'{sample.name}.png', height=height, width=width)
    layers, labels = read_instances(sample, (height, width)) if sample.masks is not None else (None, np.zeros(0, int))
    result = dict(split=sample.split, image=entry, annotations=[], labels=labels, stain_difference=None)
    if layers is None:
        return result
    entry['instance_map'] = f'{sample.name}.tif'
    write_layers(out / 'instances' / entry['instance_map'], layers)
    result['stain_difference'] = stain_difference(image, layers.any(axis=0))
    codes, boxes, areas = [None] * len(labels), np.zeros((len(labels), 4), int), np.zeros(len(labels), int)
    for layer in layers:
        layer_boxes, layer_areas = instance_extents(layer, np.arange(1, len(labels) + 1))
        layer_codes = encode_instances(layer, len(labels))
        for index in np.flatnonzero(layer_areas):
            codes[index] = layer_codes[index]
        boxes += layer_boxes
        areas += layer_areas
    for index, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        result['annotations'].append(
            dict(
                category_id=int(labels[index]),
                bbox=[x1, y1, x2 - x1, y2 - y1],
                area=int(areas[index]),
                segmentation=codes[index],
                iscrowd=0,
                instance_id=index + 1,
            )
        )
    return result


def _convert_image(sample: Sample, order: str, out: Path) -> np.ndarray:
    """Write the image in true RGB; return (7,) float64: pixels, and the sums and sums of squares of R, G and B."""
    image = read_image(sample.image)
    rgb = image if order == 'rgb' else image[..., ::-1]
    path = out / 'images' / f'{sample.name}.png'
    if not cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1])):
        raise UserError(f'{path}: cannot be written (disk full?)')
    values = rgb.reshape(-1, 3).astype(np.float64)
    return np.concatenate([[len(values)], values.sum(axis=0), (values**2).sum(axis=0)])
