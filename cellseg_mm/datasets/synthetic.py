"""Synthetic H&E-like tissue in the course task's layout, drawn from a seed.

Tissue is drawn as two stain densities, haematoxylin and eosin, and turned into light by the law of Beer and Lambert, so
that the stain varies by image as it does between laboratories. Cell sizes follow the real data: the median square root
of the area is 26, 17, 24 and 45 px for epithelial cells, lymphocytes, neutrophils and macrophages.
"""

import errno
import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy import ndimage
from tqdm import tqdm

from cellseg_mm.utils import UserError, write_atomically

# Optical density of the stains in R, G, B: Macenko et al., ISBI 2009, the reference vectors of its public code.
HAEMATOXYLIN = np.array([0.5626, 0.7201, 0.4062])
EOSIN = np.array([0.2159, 0.8012, 0.5581])


@dataclass(frozen=True)
class CellType:
    """How one class is drawn.

    Attributes:
        radius: Mean radius in px of a disc of the same area.
        spread: Relative standard deviation of the radius.
        elongation: Largest ratio of the long to the short axis.
        roughness: Amplitude of the outline's waves, relative to the radius.
    """

    radius: float
    spread: float
    elongation: float
    roughness: float


CELL_TYPES = (
    CellType(radius=15.3, spread=0.12, elongation=1.7, roughness=0.05),  # epithelial
    CellType(radius=9.7, spread=0.08, elongation=1.15, roughness=0.03),  # lymphocyte
    CellType(radius=13.8, spread=0.07, elongation=1.2, roughness=0.06),  # neutrophil
    CellType(radius=27.0, spread=0.12, elongation=1.4, roughness=0.11),  # macrophage
)
EPITHELIAL, LYMPHOCYTE, NEUTROPHIL, MACROPHAGE = range(4)

# Chances of the four classes by where in the tissue a cell lies.
CLASS_SHARES = dict(nest=(0.85, 0.05, 0.02, 0.08), inflamed=(0.02, 0.66, 0.20, 0.12), stroma=(0.0, 0.25, 0.25, 0.5))

# Marks a folder as drawn. The real download has all other files, and must not be replaced.
MARKER = 'made_by_make_sample_data.txt'
MARKER_TEXT = (
    'Drawn by tools/make_sample_data.py. When it is run on this folder again, it deletes train/, test/ and\n'
    'test_release/ and draws them anew.\n'
)

# A new cell may lose at most this share of its area to earlier cells, so that cells touch and none is covered.
MAX_COVERED = 0.15


def smooth_noise(rng: np.random.Generator, shape: tuple, sigma: float) -> np.ndarray:
    """(H, W) noise of mean about 0 and standard deviation 1, smooth over ``sigma`` px."""
    # on a coarse grid if sigma allows it, because a Gaussian of 100 px is slow
    step = max(int(sigma / 3), 1)
    coarse = [size // step + 3 for size in shape]
    noise = ndimage.gaussian_filter(rng.standard_normal(coarse), sigma / step, mode='wrap')
    noise /= noise.std() + 1e-9
    if step == 1:
        return noise[: shape[0], : shape[1]]
    return cv2.resize(noise, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)[: shape[0], : shape[1]]


def _fibres(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """(H, W) wavy streaks of mean about 0 and standard deviation 1: collagen."""
    size = max(shape) + 60
    streaks = ndimage.gaussian_filter(rng.standard_normal((size, size)), (1.3, 14), mode='wrap')
    rows, cols = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    bend = 14 * smooth_noise(rng, shape, 40).astype(np.float32)
    along = np.cos(angle) * cols + np.sin(angle) * rows + bend
    across = np.cos(angle) * rows - np.sin(angle) * cols + bend
    along, across = along.astype(np.float32), across.astype(np.float32)
    wavy = cv2.remap(streaks, along, across, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return wavy / streaks.std()


class _Outline:
    """A cell's outline: which pixels of a window lie in it, and how deep.

    Attributes:
        window: Slices of the image, cut at its border.
        depth: 0 on the outline, rising to 1 at the centre, negative outside; shape of the window.
        x, y: Coordinates in units of the radius, along the long and the short axis.
    """

    def __init__(self, rng: np.random.Generator, kind: CellType, centre: tuple, angle: float, shape: tuple) -> None:
        radius = kind.radius * np.exp(rng.normal(0, kind.spread))
        stretch = np.sqrt(rng.uniform(1, kind.elongation))
        reach = int(np.ceil(radius * stretch * (1 + 3 * kind.roughness))) + 1
        row, col = centre
        self.window = (
            slice(max(int(row) - reach, 0), min(int(row) + reach + 1, shape[0])),
            slice(max(int(col) - reach, 0), min(int(col) + reach + 1, shape[1])),
        )
        rows, cols = np.mgrid[self.window]
        rows, cols = (rows - row) / radius, (cols - col) / radius
        self.x = (np.cos(angle) * cols + np.sin(angle) * rows) / stretch
        self.y = (np.cos(angle) * rows - np.sin(angle) * cols) * stretch
        theta = np.arctan2(self.y, self.x)
        limit = np.ones_like(theta)
        for wave in range(2, 6):
            limit += rng.normal(0, kind.roughness / np.sqrt(wave)) * np.cos(wave * theta + rng.uniform(0, 2 * np.pi))
        self.depth = 1 - np.hypot(self.x, self.y) / limit
        self.radius = radius


def _blob(outline: _Outline, x: float, y: float, size: float) -> np.ndarray:
    """A soft disc inside a cell, all in units of its radius: 1 in the middle, 0 outside."""
    distance = np.hypot(outline.x - x, outline.y - y) / size
    return np.clip((1 - distance) * size * outline.radius + 0.5, 0, 1)


def _paint(rng: np.random.Generator, label: int, outline: _Outline) -> tuple:
    """Densities of haematoxylin and eosin over a cell's window."""
    shape = outline.depth.shape
    rim = np.exp(-np.abs(outline.depth) * outline.radius / 1.6)
    if label == EPITHELIAL:  # large, pale and granular, with a dark membrane and nucleoli
        haematoxylin = 0.52 + 0.13 * smooth_noise(rng, shape, 1.6) + 0.4 * rim
        for _ in range(rng.integers(1, 3)):
            x, y = rng.uniform(-0.4, 0.4, 2)
            haematoxylin += 0.65 * _blob(outline, x, y, 0.2)
        return haematoxylin, np.full(shape, 0.24)
    if label == LYMPHOCYTE:  # small, round, dark all over
        return 1.15 + 0.12 * smooth_noise(rng, shape, 1.8) + 0.15 * rim, np.full(shape, 0.15)
    if label == NEUTROPHIL:  # a lobed dark nucleus in a pink granular body
        lobes, start = rng.integers(3, 5), rng.uniform(0, 2 * np.pi)
        angles = start + np.arange(lobes) * rng.uniform(1.2, 1.6)
        nucleus = np.max([_blob(outline, 0.45 * np.cos(a), 0.45 * np.sin(a), 0.34) for a in angles], axis=0)
        haematoxylin = 0.1 + 1.15 * nucleus
        return haematoxylin, (0.42 + 0.08 * smooth_noise(rng, shape, 1.0)) * (1 - 0.5 * nucleus) + 0.15 * rim
    # macrophage: a large foamy body, its nucleus to one side
    nucleus = _blob(outline, rng.uniform(-0.4, 0.4), rng.uniform(-0.3, 0.3), 0.4)
    foam = smooth_noise(rng, shape, 2.2)
    haematoxylin = 0.12 + 0.05 * foam + nucleus * (0.55 + 0.1 * smooth_noise(rng, shape, 1.6))
    return haematoxylin, 0.2 + 0.07 * foam + 0.16 * rim


def draw_tissue(rng: np.random.Generator, height: int, width: int, density: float = 1.0) -> tuple:
    """One image of tissue with its cells.

    Args:
        rng (Generator): The image depends only on its state.
        height (int): In px.
        width (int): In px.
        density (float): 1 fills the tissue loosely, 3 packs it with touching cells, 0 draws no cell.

    Returns:
        tuple: (H, W, 3) uint8 true RGB; (H, W) int32 map of ids 1..N; (N,) int64 class indices from 0.
    """
    shape = (height, width)
    nests = smooth_noise(rng, shape, 32) + rng.normal(0, 0.4)  # epithelium where above 0, stroma elsewhere
    epithelium = ndimage.gaussian_filter((nests > 0).astype(float), 2.5)
    gaps = np.clip(4 * (smooth_noise(rng, shape, 22) - 1.75), 0, 1)  # lumina and cracks, nearly white
    grain = smooth_noise(rng, shape, 1.2)
    haematoxylin = 0.06 + 0.13 * epithelium + 0.03 * smooth_noise(rng, shape, 8)
    eosin = (1 - epithelium) * (0.36 + 0.09 * _fibres(rng, shape)) + epithelium * (0.27 + 0.03 * grain)
    eosin += 0.04 * smooth_noise(rng, shape, 25)
    haematoxylin, eosin = haematoxylin * (1 - 0.9 * gaps), eosin * (1 - 0.9 * gaps)

    instance_map, labels = np.zeros(shape, np.int32), []
    direction = np.pi * smooth_noise(rng, shape, 50)  # neighbours have similar directions
    if density > 0:
        _draw_spindles(rng, haematoxylin, direction, nests)
    inflamed = smooth_noise(rng, shape, 28) > 0.2
    for _ in range(int(density * height * width / 500)):
        row, col = rng.uniform(0, height - 1), rng.uniform(0, width - 1)
        at = int(row), int(col)
        if instance_map[at] or gaps[at] > 0.3:
            continue
        site = 'nest' if nests[at] > 0 else 'inflamed' if inflamed[at] else 'stroma'
        label = int(rng.choice(4, p=CLASS_SHARES[site]))
        outline = _Outline(rng, CELL_TYPES[label], (row, col), direction[at] + rng.normal(0, 0.3), shape)
        inside = outline.depth > 0
        here = instance_map[outline.window]
        free = inside & (here == 0)
        if free.sum() < max((1 - MAX_COVERED) * inside.sum(), 1) or ndimage.label(free)[1] > 1:
            continue
        labels.append(label)
        here[free] = len(labels)
        for target, values in zip((haematoxylin, eosin), _paint(rng, label, outline), strict=True):
            target[outline.window][free] = values[free]
    return _develop(rng, haematoxylin, eosin), instance_map, np.array(labels, np.int64)


def _draw_spindles(
    rng: np.random.Generator, haematoxylin: np.ndarray, direction: np.ndarray, nests: np.ndarray
) -> None:
    """Thin dark nuclei of connective tissue, which belong to none of the four classes, as in the real data."""
    spindle = CellType(radius=4.5, spread=0.1, elongation=1.0, roughness=0.0)
    height, width = haematoxylin.shape
    for _ in range(int(height * width / 4000)):
        row, col = rng.uniform(0, height - 1), rng.uniform(0, width - 1)
        at = int(row), int(col)
        if nests[at] > -0.3:
            continue
        outline = _Outline(rng, spindle, (row, col), direction[at], haematoxylin.shape)
        inside = np.hypot(0.5 * outline.x, 2 * outline.y) < 1
        haematoxylin[outline.window][inside] = 0.85


def _develop(rng: np.random.Generator, haematoxylin: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    """Densities to (H, W, 3) uint8 true RGB, with the stain of one laboratory and the blur and noise of a camera."""
    density = np.zeros((*haematoxylin.shape, 3))
    for stain, vector in ((haematoxylin, HAEMATOXYLIN), (eosin, EOSIN)):
        colour = vector + rng.normal(0, 0.03, 3)
        strength = np.exp(rng.normal(0, 0.13))
        density += strength * np.clip(ndimage.gaussian_filter(stain, 0.85), 0, None)[..., None] * colour
    light = rng.uniform(238, 250) * 10**-density + rng.normal(0, 2.5, density.shape)
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def _image_plan(num_images: int, size: int) -> Iterator:
    """(split, height, width, density) of each image; unusual ones, as in real data, come first in each split."""
    num_test = max(num_images // 4, 3)
    for split, count in (('train', num_images - num_test), ('test', num_test)):
        odd = [(33, 86, 1.0), (max(size // 4, 40), size * 2, 1.5), (size, size, 4.0)]
        if split == 'train':
            odd.append((size, size, 0.0))
        for index in range(count):
            yield (split, *(odd[index] if index < len(odd) else (size, size, 2.0)))


def make_sample_data(out: Path, num_images: int = 40, size: int = 256, seed: int = 0) -> None:
    """Write synthetic data in the course task's layout, quirks included (data/README.md), in place of an older one.

    A quarter of the images is in ``test/``, with labels, and again in ``test_release/``, without. Some images are of
    33 x 86 px, long, packed with touching cells, or without a cell.

    Args:
        out (Path): A new or empty folder, or an older synthetic data set.
        num_images (int): In all, at least 8.
        size (int): Height and width in px of most images, at least 64.
        seed (int): Equal seeds, numbers and sizes give equal files.

    Raises:
        UserError: For too few or too small images, or if ``out`` holds anything and is not marked as drawn.
    """
    out = Path(out)
    if num_images < 8 or size < 64:
        raise UserError(f'--images {num_images} --size {size}: at least 8 images of 64 px are needed')
    if out.exists() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise UserError(
            f'{out}: not empty, and without {MARKER}, which marks drawn images (older versions wrote none); choose '
            'another folder, or delete this one if it was drawn'
        )
    write_atomically(out / MARKER, MARKER_TEXT)  # first, so that a stopped run can be repeated
    for folder in ('train', 'test', 'test_release'):
        shutil.rmtree(out / folder, ignore_errors=True)
    (out / 'test_release').mkdir()
    ids = []
    plan = list(_image_plan(num_images, size))
    for index, (split, height, width, density) in enumerate(tqdm(plan, desc='drawing tissue', unit='image')):
        rng = np.random.default_rng([seed, index])
        name = str(uuid.UUID(bytes=rng.bytes(16), version=4))
        rgb, instance_map, labels = draw_tissue(rng, height, width, density)
        # Handed to OpenCV in RGB order, it is stored with red and blue exchanged, as the real files are.
        stored = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
        write_sample(out / split / name, stored, instance_map, labels)
        if split == 'test':
            _write_tiff(out / 'test_release' / f'{name}.tif', stored)
            ids.append(dict(file_name=f'{name}.tif', id=len(ids) + 1, height=height, width=width))
    (out / 'test_image_name_to_ids.json').write_text(json.dumps(ids), encoding='utf-8')


def write_sample(folder: Path, image: np.ndarray, instance_map: np.ndarray, labels: np.ndarray) -> None:
    """Write image.tif and, for each class that has a cell, classN.tif: float64, ids running on over the classes.

    Args:
        folder (Path): Made here.
        image (ndarray): (H, W, C) uint8, channels in the order in which OpenCV takes them.
        instance_map (ndarray): (H, W) int, i + 1 on cell i.
        labels (ndarray): (N,) int class indices.
    """
    folder.mkdir(parents=True)
    _write_tiff(folder / 'image.tif', image)
    next_id = 1
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label) + 1
        new_ids = np.zeros(len(labels) + 1, np.float64)
        new_ids[members] = np.arange(next_id, next_id + len(members))
        next_id += len(members)
        _write_tiff(folder / f'class{label + 1}.tif', new_ids[instance_map], [cv2.IMWRITE_TIFF_COMPRESSION, 1])


def _write_tiff(path: Path, image: np.ndarray, options: list | None = None) -> None:
    if not cv2.imwrite(str(path), image, options or []):
        raise OSError(errno.ENOSPC, 'cannot be written', str(path))  # OpenCV does not say why
