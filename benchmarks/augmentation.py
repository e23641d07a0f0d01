#!/usr/bin/env python3
"""The geometric part of the course report's Table 1, from the stored annotation to packed masks and boxes.

Every transform is always applied, with the same parameters for all: both flips, a turn by 10 degrees, a zoom of 1.1, a
crop of 0.9 x 0.9 stretched back. Four ways: ours; stock mmdet with one bitmap a cell (its warps fail above 512 masks,
so they get groups of 500); Albumentations with one array a cell, and with one id map (an optional package: pip install
albumentations). One thread each, as in a data worker.
"""

import argparse
import copy
import tempfile
from pathlib import Path

import cv2
import numpy as np
from common import make_case, measure, print_table
from mmcv.transforms import Compose, LoadImageFromFile
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, RandomCrop, RandomFlip, Resize, Rotate
from mmdet.structures.mask import BitmapMasks
from pycocotools import mask as mask_utils

from cellseg_mm.datasets.transforms import (
    ApplyAffine,
    ColorJitter,
    LoadCellAnnotations,
    RandomGamma,
    RandomGaussianBlur,
    RandomGaussianNoise,
    RandomResizedCrop,
    RandomRotation,
    RandomZoom,
)
from cellseg_mm.datasets.transforms.geometric import crop_matrix, rotation_matrix, warp_masks, zoom_matrix
from cellseg_mm.structures import InstanceMapMasks, read_layers

try:
    import albumentations
except ImportError:
    albumentations = None

SIZES, CELLS = (250, 500, 1000), (50, 300, 600)
ANGLE, ZOOM, CROP = 10.0, 1.1, 0.9


def pinned(transform: object, **draws: object) -> object:
    """A transform whose random methods return these values."""
    for name, value in draws.items():
        setattr(transform, name, lambda value=value: value)
    return transform


class GroupedRotate(Rotate):
    """Stock rotation, masks in groups of 500."""

    def _transform_masks(self, results: dict, mag: float) -> None:
        masks = results['gt_masks']
        parts = [
            masks[start : start + 500].rotate(results['img_shape'], mag, interpolation=self.interpolation)
            for start in range(0, len(masks), 500)
        ]
        results['gt_masks'] = BitmapMasks.cat(parts)


def load(case: dict) -> dict:
    """The decoded image, which all ways share, and a copy of the annotation, which they may change."""
    return LoadImageFromFile()(copy.deepcopy(case))


def flips() -> list:
    return [RandomFlip(prob=1.0, direction=direction) for direction in ('horizontal', 'vertical')]


def our_pipeline() -> Compose:
    steps = [
        LoadCellAnnotations(),
        *flips(),
        pinned(RandomRotation(prob=1.0), draw_angle=-ANGLE),
        pinned(RandomZoom(prob=1.0), draw_scale=ZOOM),
        pinned(RandomResizedCrop(prob=1.0), draw_box=((1 - CROP) / 2, (1 - CROP) / 2, CROP, CROP)),
        ApplyAffine(),
        PackDetInputs(meta_keys=()),
    ]
    return Compose(steps)


def stock_pipeline(size: int) -> Compose:
    steps = [
        LoadAnnotations(with_bbox=True, with_mask=True),
        *flips(),
        GroupedRotate(prob=1.0, level=None, min_mag=ANGLE, max_mag=ANGLE, reversal_prob=0.0),
        Resize(scale_factor=ZOOM, keep_ratio=True),
        RandomCrop(crop_size=(size, size), recompute_bbox=True, allow_negative_crop=True),
        RandomCrop(crop_size=(round(CROP * size),) * 2, recompute_bbox=True, allow_negative_crop=True),
        Resize(scale=(size, size), keep_ratio=False),
        PackDetInputs(meta_keys=()),
    ]
    return Compose(steps)


def albumentations_pipeline(size: int) -> object:
    return albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=1),
            albumentations.VerticalFlip(p=1),
            albumentations.Rotate(limit=(ANGLE, ANGLE), p=1),
            albumentations.Affine(scale=(ZOOM, ZOOM), p=1),
            albumentations.RandomResizedCrop(size=(size, size), scale=(CROP**2,) * 2, ratio=(1, 1), p=1),
        ]
    )


def albumentations_arrays(pipeline: object, loaded: dict) -> tuple:
    masks = [mask_utils.decode(instance['mask']) for instance in loaded['instances']]
    out = pipeline(image=loaded['img'], masks=masks)
    stacked = BitmapMasks(list(out['masks']), *out['image'].shape[:2])
    return stacked, stacked.get_bboxes('hbox')


def albumentations_map(pipeline: object, loaded: dict) -> tuple:
    out = pipeline(image=loaded['img'], mask=read_layers(loaded['instance_map_path'])[0].astype(np.int32))
    masks = InstanceMapMasks(out['mask'][None], np.arange(1, len(loaded['instances']) + 1))
    return masks, masks.get_bboxes('hbox')


def our_masks_and_boxes(case: dict) -> object:
    """The part of our pipeline for masks and boxes, without the image."""
    size = case['height']
    ids, areas = ([instance[key] for instance in case['instances']] for key in ('instance_id', 'area'))
    masks = InstanceMapMasks(read_layers(case['instance_map_path']), ids, areas).flip('horizontal').flip('vertical')
    edge = (1 - CROP) / 2 * size
    matrix = crop_matrix(edge, edge, CROP * size, CROP * size, size, size) @ zoom_matrix(ZOOM, size, size)
    warped, kept = warp_masks(masks, matrix @ rotation_matrix(-ANGLE, size, size), (size, size), 0.1)
    return warped[kept].get_bboxes('hbox')


def one_warp(case: dict) -> object:
    """A nearest-neighbour warp of one int32 map of the image's size, for comparison."""
    instance_map = np.zeros((case['height'], case['width']), np.int32)
    matrix = rotation_matrix(-ANGLE, *instance_map.shape)[:2]
    return lambda: cv2.warpAffine(instance_map, matrix, instance_map.shape[::-1], flags=cv2.INTER_NEAREST)


def photometry(case: dict) -> object:
    """Image-only transforms and normalisation."""
    image = cv2.imread(case['img_path'])
    jitter, noise, blurring, gamma = ColorJitter(), RandomGaussianNoise(), RandomGaussianBlur(), RandomGamma()
    mean, std = np.float32([140, 92, 127]), np.float32([52, 44, 38])

    def run() -> object:
        out = gamma.adjust(blurring.adjust(noise.adjust(jitter.adjust(image))))
        return (out - mean) / std

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sizes', type=int, nargs='+', default=SIZES)
    parser.add_argument('--cells', type=int, nargs='+', default=CELLS)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rows, results = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            for cells in args.cells:
                rows.append(measure_case(make_case(Path(folder), size, cells), size, cells, results))
    header = ['px', 'cells', 'ours ms', 'stock ms', 'Albu arrays ms', 'Albu map ms', 'ours MiB', 'stock MiB']
    print_table([*header, 'masks+boxes ms', 'in warps', 'photometry ms'], rows)
    if not albumentations:
        print('albumentations is not installed: its columns are empty')
    largest = (args.sizes[-1], args.cells[-1])
    few, many = (results[args.sizes[-1], cells]['ours'][0] for cells in (args.cells[0], args.cells[-1]))
    print(f'ours at {args.cells[-1]} cells over ours at {args.cells[0]}, {args.sizes[-1]} px: {many / few:.2f}')
    ours, stock = results[largest]['ours'], results[largest]['stock']
    print(f'memory_ratio {stock[1] / max(ours[1], 0.1):.1f}')
    print(f'ratio {stock[0] / ours[0]:.1f}')


def measure_case(case: dict, size: int, cells: int, results: dict) -> list:
    """One row of the table; times without reading the image file, which is the same for all."""
    loaded = load(case)
    ours, stock = our_pipeline(), stock_pipeline(size)

    def fresh() -> dict:
        return dict(loaded)

    result = dict(
        ours=measure(lambda: ours(fresh()), repeats=40, warm_up=3),
        stock=measure(lambda: stock(fresh()), repeats=3 if size * cells < 300_000 else 1),
        masks=measure(lambda: our_masks_and_boxes(case), repeats=60, warm_up=5),
        warp=measure(one_warp(case), repeats=60, warm_up=5),
        photometry=measure(photometry(case), repeats=10, warm_up=1),
        arrays=(float('nan'), 0),
        map=(float('nan'), 0),
    )
    if albumentations:
        pipeline = albumentations_pipeline(size)
        result['arrays'] = measure(lambda: albumentations_arrays(pipeline, fresh()), repeats=5, warm_up=1)
        result['map'] = measure(lambda: albumentations_map(pipeline, fresh()), repeats=20, warm_up=2)
    results[size, cells] = result
    times = [f'{1000 * result[name][0]:.1f}' for name in ('ours', 'stock', 'arrays', 'map')]
    memory = [f'{result[name][1]:.0f}' for name in ('ours', 'stock')]
    in_warps = result['masks'][0] / result['warp'][0]
    masks, photo = (f'{1000 * result[name][0]:.2f}' for name in ('masks', 'photometry'))
    return [size, cells, *times, *memory, masks, f'{in_warps:.1f}', photo]


if __name__ == '__main__':
    main()
