#!/usr/bin/env python3
"""Time and memory of converting the course task's layout, against the loop over instances of public solutions.

Both read the same files, drawn here: RGBA images and a float64 mask file for each class, with sizes and cells
distributed as in the course task (sides of 374 and 464 px in the median, a sixth of the images above 1000 px, cells by
area, at most 772 an image). The loop only writes COCO annotations: for each class file and each id ``mask == id``, and
pycocotools' code, area and box of it, in one process. Ours is all of tools/prepare_data.py: the same annotations
(compared), and id maps, images in true RGB as PNG, channel order, split, mean and std, with a process for each
processor; "in one process" is its work on the images alone. Memory is the peak of the resident size above that at the
start; of several processes, that of one times their number.
"""

import argparse
import json
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from common import measure, print_table
from pycocotools import mask as mask_utils

from cellseg_mm.datasets import prepare
from cellseg_mm.datasets.formats import FORMATS
from cellseg_mm.datasets.prepare import convert_sample

MEDIAN_SIZE, SPREAD = (374, 464), 0.8  # px, and the standard deviation of the logarithm
SMALLEST, LARGEST = (33, 35), (2500, 1987)
MOST_CELLS = 772
CLASS_SHARES = (0.46, 0.5, 0.02, 0.02)
RADII = (15, 9.4, 13.4, 25)  # px


def plan(images: int, cells: int, largest: int) -> list:
    """(height, width, cells) of each image."""
    rng = np.random.default_rng([images, cells])
    sizes = MEDIAN_SIZE * np.exp(
        SPREAD * (0.9 * rng.standard_normal((images, 1)) + 0.4 * rng.standard_normal((images, 2)))
    )
    sizes = np.clip(sizes, SMALLEST, np.minimum(LARGEST, largest)).astype(int)
    counts = np.zeros(images, int)
    while counts.sum() < cells:
        open_area = np.where(counts < MOST_CELLS, sizes.prod(axis=1), 0)
        counts += rng.multinomial(cells - counts.sum(), open_area / open_area.sum())
        counts = np.minimum(counts, MOST_CELLS)
    return [(*size, count) for size, count in zip(sizes.tolist(), counts.tolist(), strict=True)]


def draw_image(folder: Path, seed: list, height: int, width: int, count: int) -> None:
    """Write image.tif and classN.tif with so many round cells on a jittered grid."""
    rng = np.random.default_rng(seed)
    cols = max(int(np.ceil(np.sqrt(count * width / height))), 1)
    rows = max(-(-count // cols), 1)
    labels = rng.choice(4, count, p=CLASS_SHARES)
    masks, id_map = np.zeros((4, height, width), np.int32), np.zeros((height, width), np.uint8)
    for number, place in enumerate(rng.permutation(rows * cols)[:count]):
        row, col = (np.array(divmod(place, cols)) + 0.5 + rng.uniform(-0.1, 0.1, 2)) * (height / rows, width / cols)
        radius = round(min(0.38 * height / rows, 0.38 * width / cols, RADII[labels[number]] * rng.normal(1, 0.1)))
        for target, value in ((masks[labels[number]], number + 1), (id_map, 1)):
            cv2.circle(target, (round(col), round(row)), radius, value, cv2.FILLED)
    colour = np.where(id_map[..., None], np.uint8([150, 60, 90]), np.uint8([190, 150, 205]))
    image = colour + rng.integers(0, 41, colour.shape, np.uint8)
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / 'image.tif'), np.dstack([image, np.full((height, width), 255, np.uint8)]))
    for label in np.unique(labels):
        mask = masks[label].astype(np.float64)
        cv2.imwrite(str(folder / f'class{label + 1}.tif'), mask, [cv2.IMWRITE_TIFF_COMPRESSION, 1])


def loop(src: Path, out: Path) -> None:
    """COCO annotations by a loop over the instances."""
    content = dict(
        images=[], annotations=[], categories=[dict(id=label, name=f'class{label}') for label in range(1, 5)]
    )
    for image_id, folder in enumerate(sorted((src / 'train').iterdir()), start=1):
        height, width = cv2.imread(str(folder / 'image.tif')).shape[:2]
        content['images'].append(dict(id=image_id, file_name=f'{folder.name}/image.tif', height=height, width=width))
        for label in range(1, 5):
            path = folder / f'class{label}.tif'
            if not path.exists():
                continue
            ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            for number in np.unique(ids):
                if number == 0:
                    continue
                code = mask_utils.encode(np.asfortranarray(ids == number, np.uint8))
                entry = dict(id=len(content['annotations']) + 1, image_id=image_id, category_id=label, iscrowd=0)
                entry.update(area=float(mask_utils.area(code)), bbox=mask_utils.toBbox(code).tolist())
                entry['segmentation'] = dict(size=code['size'], counts=code['counts'].decode())
                content['annotations'].append(entry)
    out.write_text(json.dumps(content))


def convert_images(src: Path, out: Path) -> None:
    """Our conversion of the images, one after another."""
    for folder in ('images', 'instances'):
        (out / folder).mkdir(parents=True, exist_ok=True)
    samples, classes = FORMATS['task'].find_samples(src, None)
    for sample in samples:
        convert_sample(sample, 'auto', out, len(classes))


def measure_with_cpu(function: Callable) -> tuple:
    """Seconds, CPU seconds of all processes together, and MiB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, memory = measure(function)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, memory


def cells_of(*paths: Path) -> list:
    """Class, code, area and box of all annotations of some files, sorted."""
    entries = [entry for path in paths for entry in json.loads(path.read_text())['annotations']]
    keys = ('category_id', 'area', 'bbox')
    return sorted((*(entry[key] for key in keys), entry['segmentation']['counts']) for entry in entries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=200)
    parser.add_argument('--cells', type=int, default=31_000, help='in all')
    parser.add_argument('--largest', type=int, default=max(LARGEST), help='longest side in px')
    args = parser.parse_args()
    workers = min(os.cpu_count(), args.images)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for index, size in enumerate(plan(args.images, args.cells, args.largest)):
            draw_image(root / 'source' / 'train' / f'{index:04d}', [args.images, args.cells, index], *size)
        stock = measure_with_cpu(lambda: loop(root / 'source', root / 'loop.json'))
        alone = measure_with_cpu(lambda: convert_images(root / 'source', root / 'alone'))
        ours = measure_with_cpu(lambda: prepare(root / 'source', root / 'prepared', source_format='task'))
        splits = [root / f'prepared/annotations/{split}.json' for split in ('train', 'val')]
        found = cells_of(*splits)
        if found != cells_of(root / 'loop.json'):
            raise SystemExit('the annotations differ')
    memory = ours[2] + workers * alone[2]
    print_table(
        ['conversion', 'images', 'cells', 'processes', 's', 'CPU s', 'MiB'],
        [
            [name, args.images, len(found), count, f'{seconds:.2f}', f'{busy:.2f}', f'{mebibytes:.0f}']
            for name, count, seconds, busy, mebibytes in (
                ('loop over instances', 1, *stock),
                ('ours, in one process', 1, *alone),
                ('ours', workers, *ours[:2], memory),
            )
        ],
    )
    print(f'memory_ratio {stock[2] / max(memory, 0.1):.1f}')
    print(f'ratio {stock[0] / ours[0]:.1f}')


if __name__ == '__main__':
    main()
