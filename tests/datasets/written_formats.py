"""A labelled set in each format, written by other code than reads it."""

import json
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import cv2
import numpy as np
import scipy.io
import tifffile
from conftest import write_class_folder
from pycocotools import mask as mask_utils
from skimage.draw import polygon2mask

HEIGHT, WIDTH = 64, 96
CLASSES = ('epithelial', 'lymphocyte')


class Scene(NamedTuple):
    """One image.

    Attributes:
        name: Stem of its files.
        split: 'train' or 'test'.
        image: (H, W, 3) uint8 RGB, nuclei blue.
        cells: Class name and (P, 2) vertices (x, y) in px of each; none overlap.
        ignored: Vertices of a region to ignore.
    """

    name: str
    split: str
    image: np.ndarray
    cells: list
    ignored: np.ndarray


def to_mask(points: np.ndarray) -> np.ndarray:
    """(H, W) bool by scikit-image, whose pixel centres are whole numbers."""
    return polygon2mask((HEIGHT, WIDTH), points[:, ::-1] - 0.5)


def make_scenes() -> list:
    """Two images of each of three patients for training, and one of a fourth for testing."""
    scenes = []
    for index, name in enumerate(['p1_1', 'p1_2', 'p2_1', 'p2_2', 'p3_1', 'p3_2', 'p4_1']):
        rng = np.random.default_rng(index)
        stars = []
        for place in range(6):
            angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
            row, col = np.array(divmod(place, 4)) * (32, 24) + (16, 12)
            radii = rng.uniform(6, 11, 12)
            stars.append(np.stack([col + radii * np.cos(angles), row + radii * np.sin(angles)], axis=1).round(3))
        outlines = stars
        corners = np.array([[50, 35], [94, 35], [94, 62], [50, 62]])
        ignored = (corners + rng.uniform(-2, 2, (4, 2))).round(3)  # larger than a cell
        cells = [(CLASSES[number % 2], points) for number, points in enumerate(outlines)]
        inside = np.any([to_mask(points) for points in outlines], axis=0)
        image = np.where(inside[..., None], [90, 60, 150], [225, 150, 190]) + rng.integers(-9, 10, (HEIGHT, WIDTH, 3))
        scenes.append(Scene(name, 'train' if index < 6 else 'test', image.astype(np.uint8), cells, ignored))
    return scenes


def id_map(scene: Scene, gap: int = 1) -> np.ndarray:
    """(H, W) int64; the ids are ``gap`` apart."""
    ids = np.zeros((HEIGHT, WIDTH), np.int64)
    for number, (_, points) in enumerate(scene.cells, start=1):
        ids[to_mask(points)] = number * gap
    return ids


def write_task(root: Path, scenes: list) -> None:
    for scene in scenes:
        ids = id_map(scene)
        masks = {}
        for number, (name, _) in enumerate(scene.cells, start=1):
            masks.setdefault(f'class{CLASSES.index(name) + 1}', np.zeros((HEIGHT, WIDTH)))[ids == number] = number
        write_class_folder(root / scene.split / scene.name, scene.image, **masks)


def write_monusac(root: Path, scenes: list) -> None:
    """Every other image as SVS."""
    for index, scene in enumerate(scenes):
        folder = root / scene.split / scene.name[:2]
        folder.mkdir(parents=True, exist_ok=True)
        if index % 2:
            description = 'Aperio Image Library v12.0.15\r\n96x64 |AppMag = 40|MPP = 0.2520'
            tifffile.imwrite(folder / f'{scene.name}.svs', scene.image, tile=(32, 32), description=description)
        else:
            tifffile.imwrite(folder / f'{scene.name}.tif', scene.image)
        root_element = ElementTree.Element('Annotations', MicronsPerPixel='0.252')
        for name in (*CLASSES, 'Ambiguous'):
            annotation = ElementTree.SubElement(root_element, 'Annotation', Id='1', Name='', Type='4')
            attributes = ElementTree.SubElement(annotation, 'Attributes')
            ElementTree.SubElement(attributes, 'Attribute', Name=name.capitalize(), Id='0', Value='')
            regions = ElementTree.SubElement(annotation, 'Regions')
            ElementTree.SubElement(regions, 'RegionAttributeHeaders')
            outlines = [points for own, points in scene.cells if own == name]
            for number, points in enumerate([scene.ignored] if name == 'Ambiguous' else outlines, start=1):
                region = ElementTree.SubElement(regions, 'Region', Id=str(number), Type='0', NegativeROA='0')
                ElementTree.SubElement(region, 'Attributes')
                vertices = ElementTree.SubElement(region, 'Vertices')
                for x, y in points.tolist():
                    ElementTree.SubElement(vertices, 'Vertex', X=str(x), Y=str(y), Z='0')
        ElementTree.ElementTree(root_element).write(folder / f'{scene.name}.xml')


def write_hovernet(root: Path, scenes: list) -> None:
    """Types 1 and 2 are epithelial, 3 is lymphocyte, as --classes epithelial epithelial lymphocyte says."""
    for scene in scenes:
        folder = root / scene.split.capitalize()
        for name in ('Images', 'Labels'):
            (folder / name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / 'Images' / f'{scene.name}.png'), scene.image[..., ::-1])
        types = [3 if name == 'lymphocyte' else 1 + number % 4 // 2 for number, (name, _) in enumerate(scene.cells)]
        content = dict(inst_map=id_map(scene, gap=3).astype(np.float64), inst_type=np.array(types, np.float64)[:, None])
        if scene.name.endswith('2'):  # a map of types in place of a list, with a pixel that says otherwise
            content = dict(inst_map=id_map(scene), type_map=np.append(0, types)[id_map(scene)])
            content['type_map'][tuple(np.argwhere(content['type_map'] == 3)[0])] = 1
        scipy.io.savemat(folder / 'Labels' / f'{scene.name}.mat', content)


def write_cellpose(root: Path, scenes: list) -> None:
    """Maps of several dtypes."""
    for scene, dtype in zip(scenes, ['u2', 'u4', 'i4', 'u8', 'f4', 'f8', 'i8'], strict=True):
        folder = root / scene.split
        folder.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / f'{scene.name}.tif', scene.image)
        tifffile.imwrite(
            folder / f'{scene.name}_masks.tif', id_map(scene, gap=70_000 if dtype != 'u2' else 5).astype(dtype)
        )


def write_coco(root: Path, scenes: list) -> None:
    """Polygons and run-length codes, compressed or not, in turn; the region to ignore is a crowd of lymphocytes."""
    (root / 'annotations').mkdir(parents=True)
    for split in ('train', 'test'):
        (root / split).mkdir()
        categories = [dict(id=7, name='epithelial'), dict(id=9, name='lymphocyte')]
        content = dict(images=[], annotations=[], categories=categories)
        for image_id, scene in enumerate([scene for scene in scenes if scene.split == split], start=100):
            tifffile.imwrite(root / split / f'{scene.name}.tif', scene.image)
            content['images'].append(dict(id=image_id, file_name=f'{scene.name}.tif', height=HEIGHT, width=WIDTH))
            for number, (name, points) in enumerate([*scene.cells, ('lymphocyte', scene.ignored)]):
                mask = to_mask(points)
                code = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
                segmentation = dict(size=code['size'], counts=code['counts'].decode())
                if number % 3 == 1:
                    flat = mask.ravel('F')
                    edges = np.flatnonzero(np.diff(flat.astype(int), prepend=0, append=1 - flat[-1]))
                    segmentation['counts'] = np.diff(edges, prepend=0).tolist()
                    if flat[-1]:
                        raise ValueError('no cell of a scene reaches the last pixel')
                elif number % 3 == 2:
                    segmentation = [points.ravel().tolist()]
                entry = dict(id=len(content['annotations']) + 1, image_id=image_id, iscrowd=int(number == 6))
                entry.update(category_id=7 if name == 'epithelial' else 9, segmentation=segmentation)
                content['annotations'].append(entry)
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))


def write_geojson(root: Path, scenes: list) -> None:
    """As QuPath writes it; a region drawn around the cells is no cell."""
    for scene in scenes:
        folder = root / scene.split
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f'{scene.name}.png'), scene.image[..., ::-1])
        frame = np.array([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]])
        objects = [('annotation', None, frame), ('annotation', 'Ignore*', scene.ignored)]
        objects += [('detection', name, points) for name, points in scene.cells]
        features = []
        for kind, name, points in objects:
            properties = dict(objectType=kind)
            if name:
                properties['classification'] = dict(name=name, color=[200, 0, 0])
            ring = [*points.tolist(), points[0].tolist()]
            geometry = dict(type='Polygon', coordinates=[ring])
            features.append(dict(type='Feature', id='x', geometry=geometry, properties=properties))
        (folder / f'{scene.name}.geojson').write_text(json.dumps(dict(type='FeatureCollection', features=features)))


def write_asap(root: Path, scenes: list) -> None:
    """As ASAP writes it; the rectangle of a class of its own is drawn around the cells."""
    for scene in scenes:
        folder = root / scene.split
        folder.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / f'{scene.name}.tif', scene.image)
        root_element = ElementTree.Element('ASAP_Annotations')
        annotations = ElementTree.SubElement(root_element, 'Annotations')
        frame = np.array([[1, 1], [WIDTH - 1, 1], [WIDTH - 1, HEIGHT - 1], [1, HEIGHT - 1]])
        for number, (name, points) in enumerate([*scene.cells, ('tissue', frame), ('Ignore*', scene.ignored)]):
            annotation = ElementTree.SubElement(annotations, 'Annotation', Name=str(number), Type='Polygon')
            annotation.set('PartOfGroup', name)
            coordinates = ElementTree.SubElement(annotation, 'Coordinates')
            for order, (x, y) in enumerate(points.tolist()):
                ElementTree.SubElement(coordinates, 'Coordinate', Order=str(order), X=str(x), Y=str(y))
        ElementTree.SubElement(root_element, 'AnnotationGroups')
        ElementTree.ElementTree(root_element).write(folder / f'{scene.name}.xml')


# Of each format: how it is written, what --classes says, and the classes that come out.
WRITTEN = dict(
    task=(write_task, CLASSES, CLASSES),
    monusac=(write_monusac, CLASSES, CLASSES),
    hovernet=(write_hovernet, ('epithelial', 'epithelial', 'lymphocyte'), CLASSES),
    cellpose=(write_cellpose, None, ('cell',)),
    coco=(write_coco, None, CLASSES),
    geojson=(write_geojson, None, CLASSES),
    asap=(write_asap, None, CLASSES),
)
