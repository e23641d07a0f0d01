"""The same set in the layout of public data sets and of other tools' exports, written by other code than reads it.

A writer gives the names that its images come out with, where these are not the scenes' own.
"""

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import scipy.io
import tifffile
from written_formats import CLASSES, HEIGHT, WIDTH, WRITTEN, id_map, to_mask

CONIC = ('neutrophil', 'epithelial', 'lymphocyte', 'plasma', 'eosinophil', 'connective')


def save_png(path: Path, image: np.ndarray) -> None:
    """RGB or one channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image):
        raise OSError(path)


def save_array(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_table(path: Path, *rows: tuple) -> None:
    with open(path, 'w', newline='') as file:
        csv.writer(file).writerows(rows)


def write_pannuke(root: Path, scenes: list) -> list:
    """The scene of test is fold 3; ids of two channels may be the same, and gaps are between them."""
    names = []
    for fold in (1, 2, 3):
        folds = [3 if scene.split == 'test' else 1 + index % 2 for index, scene in enumerate(scenes)]
        own = [scene for scene, number in zip(scenes, folds, strict=True) if number == fold]
        masks = np.zeros((len(own), HEIGHT, WIDTH, 6))
        for index, scene in enumerate(own):
            for number, (name, points) in enumerate(scene.cells):
                masks[index, to_mask(points), CLASSES.index(name)] = 5 + 3 * (number // 2)
            names.append((scene.name, f'fold{fold}_{index:04d}'))
        masks[..., 5] = ~masks[..., :5].any(axis=3)
        images = np.array([scene.image for scene in own]).reshape(-1, HEIGHT, WIDTH, 3).astype(np.float64)
        save_array(root / f'Fold {fold}/images/fold{fold}/images.npy', images)
        save_array(root / f'Fold {fold}/images/fold{fold}/types.npy', np.array(['Breast'] * len(own)))
        save_array(root / f'Fold {fold}/masks/fold{fold}/masks.npy', masks)
    return [dict(names)[scene.name] for scene in scenes]


def write_conic(root: Path, scenes: list) -> list:
    """A cell's class is 2 or 3."""
    names = [f'{scene.name[:2]}-{int(scene.name[3:]):04d}' for scene in scenes]
    for split in {scene.split for scene in scenes}:
        own = [(scene, name) for scene, name in zip(scenes, names, strict=True) if scene.split == split]
        labels = np.zeros((len(own), HEIGHT, WIDTH, 2), np.uint16)
        for index, (scene, _) in enumerate(own):
            labels[index, ..., 0] = id_map(scene)
            for name, points in scene.cells:
                labels[index, to_mask(points), 1] = CONIC.index(name) + 1
        save_array(root / split / 'images.npy', np.array([scene.image for scene, _ in own]))
        save_array(root / split / 'labels.npy', labels)
        write_table(root / split / 'patch_info.csv', ('patch_info',), *((name,) for _, name in own))
    return names


def write_lizard(root: Path, scenes: list) -> None:
    """The ids of the MAT files do not rise, and one of them has no pixel."""
    rows = []
    (root / 'Lizard_Labels/Labels').mkdir(parents=True)
    for index, scene in enumerate(scenes):
        save_png(root / f'Lizard_Images{1 + index % 2}' / f'{scene.name}.png', scene.image)
        order = np.random.default_rng(index).permutation(len(scene.cells) + 1)
        types = np.array([CONIC.index(name) + 1 for name, _ in scene.cells] + [6])
        content = {'inst_map': id_map(scene).astype(np.int32), 'id': order[:, None] + 1, 'class': types[order][:, None]}
        scipy.io.savemat(root / f'Lizard_Labels/Labels/{scene.name}.mat', content)
        rows.append((scene.name, 'consep', 3 if scene.split == 'test' else 1 + index % 2))
    write_table(root / 'Lizard_Labels/info.csv', ('Filename', 'Source', 'Split'), *rows)


def write_monuseg(root: Path, scenes: list) -> None:
    """Nothing names a class; half of the files have ImageScope's attribute, without a value."""
    for index, scene in enumerate(scenes):
        folder = root / ('MoNuSegTestData' if scene.split == 'test' else 'MoNuSeg 2018 Training Data')
        inner = ('', '') if scene.split == 'test' else ('Tissue Images', 'Annotations')
        images, labels = (folder / name for name in inner)
        for place in (images, labels):
            place.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(images / f'{scene.name}.tif', scene.image)
        root_element = ElementTree.Element('Annotations', MicronsPerPixel='0.252')
        layer = ElementTree.SubElement(root_element, 'Annotation', Id='1', Name='', ReadOnly='0', Type='4')
        attributes = ElementTree.SubElement(layer, 'Attributes')
        if index % 2:
            ElementTree.SubElement(attributes, 'Attribute', Name='Description', Id='0', Value='')
        regions = ElementTree.SubElement(layer, 'Regions')
        for number, (_, points) in enumerate(scene.cells, start=1):
            region = ElementTree.SubElement(regions, 'Region', Id=str(number), Type='0', Text='', NegativeROA='0')
            vertices = ElementTree.SubElement(region, 'Vertices')
            for x, y in points.tolist():
                ElementTree.SubElement(vertices, 'Vertex', X=str(x), Y=str(y), Z='0')
        ElementTree.ElementTree(root_element).write(labels / f'{scene.name}.xml')


def write_nuinsseg(root: Path, scenes: list) -> None:
    """The vague area reaches over a nucleus, which it does not change; the other maps and masks are not to be read."""
    for index, scene in enumerate(scenes):
        organ = root / scene.split / f'human organ {index % 2}'
        save_png(organ / 'tissue images' / f'{scene.name}.png', scene.image)
        ids = id_map(scene).astype(np.uint16)
        for name, values in (('label masks', ids * 2), ('label masks modify', ids)):
            (organ / name).mkdir(exist_ok=True)
            tifffile.imwrite(organ / name / f'{scene.name}.tif', values, compression='packbits')
        vague = to_mask(scene.ignored) | (ids == 2)
        save_png(organ / 'vague areas/mask binary' / f'{scene.name}.png', vague.astype(np.uint8) * 255)
        save_png(organ / 'mask binary' / f'{scene.name}.png', (ids > 0).astype(np.uint8) * 255)


def write_dsb2018(root: Path, scenes: list) -> None:
    for scene in scenes:
        place = root / f'stage1_{scene.split}' / scene.name
        save_png(place / 'images' / f'{scene.name}.png', scene.image)
        for number, (_, points) in enumerate(scene.cells):
            save_png(place / 'masks' / f'{number:032x}.png', to_mask(points).astype(np.uint8) * 255)


def write_tnbc(root: Path, scenes: list) -> list:
    """Every third mask holds ids, the others tell nuclei from the background."""
    names = [f'0{scene.name[1:]}' for scene in scenes]
    for index, (scene, name) in enumerate(zip(scenes, names, strict=True)):
        ids = id_map(scene).astype(np.uint8)
        mask = ids if index % 3 == 2 else (ids > 0) * np.uint8(255)
        save_png(root / scene.split / f'Slide_{name[:2]}' / f'{name}.png', scene.image)
        save_png(root / scene.split / f'GT_{name[:2]}' / f'{name}.png', mask)
    return names


def coco_content(scenes: list, names: list, categories: list) -> dict:
    """COCO JSON of polygons; the ids of the classes are found by their names."""
    numbers = {category['name']: category['id'] for category in categories}
    content = dict(info={}, licenses=[], categories=categories, images=[], annotations=[])
    for image_id, (scene, name) in enumerate(zip(scenes, names, strict=True)):
        content['images'].append(dict(id=image_id, file_name=name, height=HEIGHT, width=WIDTH, license=0))
        for label, points in scene.cells:
            low, size = points.min(axis=0), np.ptp(points, axis=0)
            entry = dict(id=len(content['annotations']) + 1, image_id=image_id, category_id=numbers[label], iscrowd=0)
            entry.update(bbox=[*low, *size], area=float(size.prod()), segmentation=[points.ravel().tolist()])
            content['annotations'].append(entry)
    return content


def write_roboflow(root: Path, scenes: list) -> list:
    """Its class 0 is the root of the others."""
    categories = [dict(id=0, name='cells', supercategory='none')]
    categories += [dict(id=number, name=name, supercategory='cells') for number, name in enumerate(CLASSES, start=1)]
    names = [f'{scene.name}_png.rf.{index:032x}' for index, scene in enumerate(scenes)]
    for split in {scene.split for scene in scenes}:
        own = [(scene, name) for scene, name in zip(scenes, names, strict=True) if scene.split == split]
        for scene, name in own:
            save_png(root / split / f'{name}.png', scene.image)
        content = coco_content([scene for scene, _ in own], [f'{name}.png' for _, name in own], categories)
        (root / split / '_annotations.coco.json').write_text(json.dumps(content))
    (root / 'README.dataset.txt').write_text('cells')
    return names


def write_cvat(root: Path, scenes: list) -> None:
    """A project of two subsets."""
    categories = [dict(id=number, name=name, supercategory='') for number, name in enumerate(CLASSES, start=1)]
    (root / 'annotations').mkdir(parents=True)
    for split in {scene.split for scene in scenes}:
        own = [scene for scene in scenes if scene.split == split]
        for scene in own:
            save_png(root / 'images' / split.capitalize() / f'{scene.name}.png', scene.image)
        content = coco_content(own, [f'{scene.name}.png' for scene in own], categories)
        for entry in content['annotations']:
            entry['attributes'] = dict(occluded=False)
        (root / f'annotations/instances_{split.capitalize()}.json').write_text(json.dumps(content))


# As WRITTEN: how it is written, what --classes says, and the classes that come out.
EVERY = WRITTEN | dict(
    pannuke=(write_pannuke, (*CLASSES, 'connective', 'dead', 'other'), (*CLASSES, 'connective', 'dead', 'other')),
    conic=(write_conic, None, CONIC),
    lizard=(write_lizard, None, CONIC),
    monuseg=(write_monuseg, None, ('cell',)),
    nuinsseg=(write_nuinsseg, None, ('cell',)),
    dsb2018=(write_dsb2018, None, ('cell',)),
    tnbc=(write_tnbc, None, ('cell',)),
    roboflow=(write_roboflow, None, CLASSES),
    cvat=(write_cvat, None, CLASSES),
)
# Exports that are of a format of another name.
FORMAT_OF = dict(roboflow='coco', cvat='coco')
