"""Files whose marks do not mean what they say: each comes out right, or gives one line.

Of each kind: how five images are written, and the cells of each class that come out, with a part of the notes on them;
or a part of the line that refuses them.
"""

import json
import re

import cv2
import numpy as np
import pytest
import tifffile
from conftest import read_json
from PIL import Image
from written_formats import HEIGHT, WIDTH, id_map, make_scenes

from cellseg_mm.datasets import prepare
from cellseg_mm.datasets.formats import asap
from cellseg_mm.utils import UserError

SCENES = make_scenes()[:5]
BOTH = dict(epithelial=15, lymphocyte=15)
FRAME = np.array([[2, 2], [WIDTH - 2, 2], [WIDTH - 2, HEIGHT - 2], [2, HEIGHT - 2]])


# GeoJSON


def feature(points, kind=None, name=None, **properties):
    """One polygon, or a MultiPolygon of a list of several."""
    rings = [[*ring.tolist(), ring[0].tolist()] for ring in (points if isinstance(points, list) else [points])]
    several = isinstance(points, list)
    geometry = dict(type='MultiPolygon', coordinates=[[ring] for ring in rings])
    geometry = geometry if several else dict(type='Polygon', coordinates=rings)
    if kind:
        properties['objectType'] = kind
    if name:
        properties['classification'] = dict(name=name)
    return dict(type='Feature', id='x', geometry=geometry, properties=properties)


def geojson(make):
    """``make`` gives the features of an image from its index and its cells."""

    def write(root):
        for index, scene in enumerate(SCENES):
            cv2.imwrite(str(root / f'{scene.name}.png'), scene.image[..., ::-1])
            (root / f'{scene.name}.geojson').write_text(json.dumps(make(index, scene.cells)))

    return write


def on_planes(*planes):
    """The cells of each image on these planes of a stack by turns, as QuPath writes them."""

    def change(index, cells):
        features = [feature(points, 'detection', name) for name, points in cells]
        for number, entry in enumerate(features):
            entry['geometry'].update(planes[number % len(planes)])
        return features

    return geojson(change)


def in_frame(kind, frame_kind, frame_name, empty=()):
    """Cells in a frame; images of the given indices have the frame alone."""
    return geojson(
        lambda index, cells: [
            feature(FRAME, frame_kind, frame_name),
            *(feature(points, kind, name) for name, points in cells if index not in empty),
        ]
    )


def moved(change):
    return geojson(lambda index, cells: [feature(change(points), 'detection', name) for name, points in cells])


def one_feature_a_class(index, cells):
    names = ('epithelial', 'lymphocyte')
    return [feature([points for own, points in cells if own == name], 'annotation', name) for name in names]


def nuclei(index, cells):
    centres = [points.mean(axis=0) for _, points in cells]
    small = [feature(centre + (points - centre) * 0.7) for centre, (_, points) in zip(centres, cells, strict=True)]
    cells = [feature(points, 'cell', name) for name, points in cells]
    return [dict(cell, nucleusGeometry=own['geometry']) for cell, own in zip(cells, small, strict=True)]


def accents(root):
    geojson(lambda index, cells: [feature(points, 'detection', name) for name, points in cells])(root)
    for path in list(root.iterdir()):
        letter = 'u\u0308' if path.suffix == '.geojson' else '\u00fc'
        path.rename(root / f'M{letter}ller {path.name}')


# id maps


def numbered(count):
    """A map of pieces of 4x3 px, whose numbers begin anew after 255."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number in range(count):
        row, col = np.multiply(divmod(number, WIDTH // 4), (5, 4))
        ids[row : row + 4, col : col + 3] = number % 255 + 1
    return ids


def maps(save):
    """``save`` writes a map of ids from 1 on to a path without an ending."""

    def write(root):
        for name in ('images', 'masks'):
            (root / name).mkdir()
        for scene in SCENES:
            cv2.imwrite(str(root / 'images' / f'{scene.name}.png'), scene.image[..., ::-1])
            save(root / 'masks' / scene.name, id_map(scene).astype(np.uint8))

    return write


def pillow(ending, scale=20, **options):
    return maps(lambda path, ids: Image.fromarray(ids * scale).save(f'{path}.{ending}', **options))


def palette(ending, **options):
    def save(path, ids):
        image = Image.fromarray(ids, 'P')
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
        image.save(f'{path}.{ending}', **options)

    return maps(save)


def resized(path, ids):
    large = cv2.resize(ids * 35, (WIDTH * 2, HEIGHT * 2), interpolation=cv2.INTER_LINEAR)
    cv2.imwrite(f'{path}.png', cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))


def cellpose_folder(root):
    """What training and the graphical interface of Cellpose leave beside the images."""
    for scene in SCENES:
        tifffile.imwrite(root / f'{scene.name}.tif', scene.image)
        cv2.imwrite(str(root / f'{scene.name}_cp_masks.png'), id_map(scene).astype(np.uint16))
        tifffile.imwrite(root / f'{scene.name}_flows.tif', np.zeros((4, HEIGHT, WIDTH), 'f4'), photometric='minisblack')
        cv2.imwrite(str(root / f'{scene.name}_cp_output.png'), scene.image)
        np.save(root / f'{scene.name}_seg.npy', id_map(scene))


# COCO


def coco(make, file_name='{}.png', on_disk='{}.png', categories=('epithelial', 'lymphocyte')):
    """``make`` gives category, outlines or mask, and whether it is a crowd, from the index and the cells."""

    def write(root):
        content = dict(images=[], annotations=[])
        content['categories'] = [dict(id=number, name=name) for number, name in enumerate(categories, start=1)]
        for index, scene in enumerate(SCENES):
            path = root / on_disk.format(scene.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), scene.image[..., ::-1])
            content['images'].append(dict(id=index, file_name=file_name.format(scene.name), height=HEIGHT, width=WIDTH))
            for name, shape, is_crowd in make(index, scene):
                segmentation = code(shape) if shape.dtype == bool else [shape.ravel().tolist()]
                entry = dict(id=len(content['annotations']), image_id=index, iscrowd=int(is_crowd))
                entry.update(category_id=categories.index(name) + 1, segmentation=segmentation)
                content['annotations'].append(entry)
        (root / 'train.json').write_text(json.dumps(content))

    return write


def changed(**values):
    """Annotations with other values; a key of None is taken away."""

    def write(root):
        coco(plain)(root)
        content = read_json(root / 'train.json')
        for entry in content['annotations']:
            entry.update(values)
        content['annotations'] = [
            {key: value for key, value in entry.items() if value is not None} for entry in content['annotations']
        ]
        (root / 'train.json').write_text(json.dumps(content))

    return write


def corners_of(points):
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def code(mask):
    """Uncompressed, column by column, and the first run is background."""
    flat = mask.ravel('F').astype(int)
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=0 if not flat[-1] else 2))
    return dict(size=[HEIGHT, WIDTH], counts=np.diff(edges, prepend=0, append=len(flat)).tolist())


def plain(index, scene):
    return [(name, points, False) for name, points in scene.cells]


def brush(index, scene, every=1):
    """The brush of CVAT: a crowd for each cell, or for every second one."""
    ids = id_map(scene)
    return [
        (name, ids == number, True) if number % every == 0 else (name, points, False)
        for number, (name, points) in enumerate(scene.cells, start=1)
    ]


# XML of ImageScope


def imagescope(layer='', attribute='', value='', text='', kind='0', root='Annotations', points=lambda points: points):
    """The class in one of four places, as a format of the class name."""

    def write(folder):
        for scene in SCENES:
            tifffile.imwrite(folder / f'{scene.name}.tif', scene.image)
            layers = ''
            for name in ('epithelial', 'lymphocyte'):
                regions = ''.join(
                    f'<Region Type="{kind}" Text="{text.format(name)}"><Vertices>'
                    + ''.join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in points(own))
                    + '</Vertices></Region>'
                    for own_name, own in scene.cells
                    if own_name == name
                )
                attributes = f'<Attribute Name="{attribute.format(name)}" Value="{value.format(name)}"/>'
                layers += f'<Annotation Name="{layer.format(name)}"><Attributes>{attributes}</Attributes>'
                layers += f'<Regions>{regions}</Regions></Annotation>'
            (folder / f'{scene.name}.xml').write_text(f'<{root}>{layers}</{root}>')

    return write


def corners(points):
    return [points.min(axis=0), points.max(axis=0)]


XML_CLASSES = dict(classes=('epithelial', 'lymphocyte'))
STREWN, NO_PIXEL = 'cells are in 6 separate parts', '6 of its 6 outlines have no pixel'
FIELD, REGION = '5 regions to ignore that enclose cells: the field', '5 outlines of regions and not of cells'

KINDS = {
    'QuPath: Region* around detections': (in_frame('detection', 'annotation', 'Region*'), BOTH, FIELD),
    'QuPath: ROI* around detections': (in_frame('detection', 'annotation', 'ROI*'), BOTH, FIELD),
    'QuPath: Ignore* around all cells': (in_frame('detection', 'annotation', 'Ignore*'), BOTH, FIELD),
    'QuPath: Region* around nothing in an image': (
        in_frame('detection', 'annotation', 'Region*', empty=(0,)),
        dict(epithelial=12, lymphocyte=12),
        FIELD,
    ),
    'QuPath: cells and their frame by hand': (in_frame('annotation', 'annotation', None), BOTH, REGION),
    'QuPath: a frame by hand with nothing in it': (
        in_frame('annotation', 'annotation', None, empty=(0,)),
        dict(epithelial=12, lymphocyte=12),
        REGION,
    ),
    'QuPath: all of no class, and their frame': (
        geojson(lambda index, cells: [feature(points, 'annotation') for points in (FRAME, *(own for _, own in cells))]),
        dict(cell=30),
        REGION,
    ),
    'QuPath: a frame without a cell in a set of detections': (
        in_frame('detection', 'annotation', 'Tissue', empty=(0,)),
        dict(epithelial=12, lymphocyte=12),
        REGION,
    ),
    'QuPath: cells added by hand': (
        geojson(
            lambda index, cells: [
                feature(points, 'annotation' if number == 0 else 'detection', name)
                for number, (name, points) in enumerate(cells)
            ]
        ),
        BOTH,
        "5 annotations of a cell's size beside detections: cells",
    ),
    'QuPath: one image by hand': (
        geojson(
            lambda index, cells: [feature(own, 'detection' if index else 'annotation', name) for name, own in cells]
        ),
        BOTH,
        "6 annotations of a cell's size",
    ),
    'QuPath: cells and nuclei': (
        geojson(nuclei),
        BOTH,
        '30 cells that have an outline of their nucleus',
    ),
    'QuPath: every cell twice': (
        geojson(lambda index, cells: [feature(own, 'annotation', name) for name, own in [*cells, *cells]]),
        dict(epithelial=30, lymphocyte=30),
        '30 pairs of cells that share more than 50%',
    ),
    'CellViT: a feature a class': (
        geojson(one_feature_a_class),
        BOTH,
        '30 polygons of a single feature for each class',
    ),
    'GeoJSON: a class merged among cells': (
        geojson(
            lambda index, cells: [
                feature([points for _, points in cells[1:]], 'annotation', 'lymphocyte'),
                feature(cells[0][1], 'annotation', 'lymphocyte'),
            ]
        ),
        'feature 0: has 5 separate parts',
    ),
    'GeoJSON: classes in another property': (
        geojson(lambda index, cells: [feature(points, Cell_Type=name, label=7 + index) for name, points in cells]),
        BOTH,
        '',
    ),
    'GeoJSON: numbers of cells in a property': (
        geojson(lambda index, cells: [feature(points, label=place) for place, (_, points) in enumerate(cells)]),
        dict(cell=30),
        '',
    ),
    'GeoJSON: two properties like classes': (
        geojson(lambda index, cells: [feature(points, label=name, group='a') for name, points in cells]),
        r'no classification, but group \(a\), label',
    ),
    'GeoJSON: classes in a property of some': (
        geojson(
            lambda index, cells: [
                feature(points, 'detection', name) if number else feature(points, 'detection', category='x')
                for number, (name, points) in enumerate(cells)
                for _ in range(1 + (number == 0))
            ]
        ),
        'has no classification, as others have, but category',
    ),
    'GeoJSON: a classification without a name': (
        geojson(lambda index, cells: [feature(points, classification=dict(label='x')) for _, points in cells]),
        'its classification has label, but no name',
    ),
    'GeoJSON: planes of a stack': (
        on_planes({}, dict(plane=dict(c=-1, z=3, t=0))),
        r'objects on 2 planes \(z 0 t 0, z 3 t 0\), but an image is one',
    ),
    'GeoJSON: one plane of a stack': (on_planes(dict(plane=dict(c=-1, z=3, t=0))), BOTH, ''),
    'GeoJSON: names that differ by a space': (
        geojson(lambda index, cells: [feature(points, name=f'cell{" " * (name[0] == "e")}') for name, points in cells]),
        "classes 'cell', 'cell ': each needs its own name",
    ),
    'GeoJSON: numbers of classes as type': (
        geojson(lambda index, cells: [feature(points, type=1 + (name == 'lymphocyte')) for name, points in cells]),
        {'1': 15, '2': 15},
        '',
    ),
    'GeoJSON: classes in a property of an unknown name': (
        geojson(lambda index, cells: [feature(points, found=dict(what=name)) for name, points in cells]),
        dict(cell=30),
        '30 objects without a class but with a property found.what (epithelial, lymphocyte)',
    ),
    'GeoJSON: accents as macOS writes them': (accents, BOTH, ''),
    'GeoJSON: micrometres': (moved(lambda points: points * 0.25), BOTH, '30 cells that look like their surroundings'),
    'GeoJSON: shares of the image': (
        moved(lambda points: points / [WIDTH, HEIGHT]),
        NO_PIXEL,
    ),
    'GeoJSON: px of a slide': (moved(lambda points: np.add(points, [900, 400])), NO_PIXEL),
    'map as JPEG': (pillow('jpg', quality=95), 'is compressed as JPEG'),
    'map as JPEG named PNG': (pillow('png', format='JPEG'), 'is compressed as JPEG'),
    'map as JPEG in TIFF': (pillow('tif', compression='jpeg'), 'is compressed as JPEG'),
    'map as WebP': (pillow('webp'), 'is compressed as WEBP'),
    'map as JPEG 2000': (pillow('jp2'), 'is compressed as JPEG2000'),
    'map resized': (maps(resized), 'separate pieces'),
    'map of classes': (maps(lambda path, ids: cv2.imwrite(f'{path}.png', (1 + ids % 2) * (ids > 0))), STREWN),
    'map in which 0 is white': (
        maps(
            lambda path, ids: tifffile.imwrite(
                f'{path}.tif', ids.astype(np.uint8), photometric='miniswhite', compression='zlib'
            )
        ),
        dict(cell=30),
        '',
    ),
    'map without a cell': (
        maps(lambda path, ids: cv2.imwrite(f'{path}.png', ids * 0)),
        'no cell, nor in the labels of the other training images',
    ),
    'map of one id': (
        maps(lambda path, ids: cv2.imwrite(f'{path}.png', (ids > 0) * 255)),
        STREWN,
    ),
    'map whose background is 255': (
        maps(lambda path, ids: cv2.imwrite(f'{path}.png', np.where(ids, ids, 255))),
        'one of its ids covers .* as the background does; set it to 0',
    ),
    'map of the lines around cells': (
        maps(lambda path, ids: cv2.imwrite(f'{path}.png', np.where(cv2.erode(ids, np.ones((3, 3))) == ids, 0, ids))),
        '6 of its 6 cells are lines around empty places',
    ),
    'map of more cells than 8 bits number': (
        maps(lambda path, ids: cv2.imwrite(f'{path}.png', numbered(280))),
        'has all 255 ids of 8 bits, in 280 separate pieces',
    ),
    'map of classes times 1000 and numbers': (
        maps(
            lambda path, ids: cv2.imwrite(
                f'{path}.png', np.where(ids, 1000 * (1 + np.uint16(ids) % 2) + ids, 0).astype('u2')
            )
        ),
        dict(cell=30),
        '30 cells whose ids are a class times 1000 and a number',
    ),
    'map of numbers of a slide': (
        maps(lambda path, ids: cv2.imwrite(f'{path}.png', np.where(ids, 2510 + 700 * np.uint16(ids), 0).astype('u2'))),
        dict(cell=30),
        '',
    ),
    'map with a palette, PNG': (palette('png'), dict(cell=30), ''),
    'map with a palette, TIFF': (palette('tif'), dict(cell=30), ''),
    'map with a palette, TIFF with LZW': (palette('tif', compression='tiff_lzw'), dict(cell=30), ''),
    'map with a palette, BMP': (palette('bmp'), dict(cell=30), ''),
    'Cellpose: flows and masks': (cellpose_folder, dict(cell=30), ''),
    'CVAT: a crowd a cell': (coco(brush), BOTH, "30 crowds (iscrowd) of a cell's size"),
    'CVAT: every second cell a crowd': (coco(lambda *args: brush(*args, every=2)), BOTH, '15 crowds'),
    'COCO: a crowd around all cells': (
        coco(lambda *args: [*plain(*args), ('epithelial', FRAME, True)]),
        BOTH,
        FIELD,
    ),
    'COCO: a category of fields': (
        coco(lambda *args: [*plain(*args), ('ROI', FRAME, False)], categories=('epithelial', 'lymphocyte', 'ROI')),
        BOTH,
        REGION,
    ),
    'COCO: all is a crowd': (
        coco(lambda index, scene: [('epithelial', np.ones((HEIGHT, WIDTH), bool), True)] * (index > 0)),
        'are marked to be ignored, and 0 cells are left',
    ),
    'COCO: a mask of all cells': (
        coco(lambda index, scene: [('epithelial', id_map(scene) > 0, False)]),
        STREWN,
    ),
    'COCO: boxes as polygons': (
        coco(lambda index, scene: [(name, corners_of(points), False) for name, points in scene.cells]),
        BOTH,
        '30 cells that are upright rectangles',
    ),
    'COCO: a score': (changed(score=0.3), BOTH, '30 annotations with a score'),
    'COCO: ignore is false': (changed(ignore='false', attributes=dict(ignore=False)), BOTH, ''),
    'COCO: ignore among the attributes': (
        changed(attributes=dict(ignore=True)),
        'are marked to be ignored, and 0 cells are left',
    ),
    'COCO: ids as text': (changed(category_id='2'), r"category '2', which is not listed \(ids: 1, 2\)"),
    'COCO: no category': (changed(category_id=None), "an entry has no 'category_id'"),
    'COCO: a class to ignore by its name': (
        coco(lambda index, scene: [('Ignored', points, False) for _, points in scene.cells], categories=['Ignored']),
        dict(Ignored=30),
        '30 cells of a class whose name says to ignore them',
    ),
    'COCO: accents as macOS writes them': (coco(plain, 'M\u00fcller {}.png', 'images/Mu\u0308ller {}.png'), BOTH, ''),
    'COCO: backslashes': (coco(plain, 'set\\{}.png', 'images/set/{}.png'), BOTH, ''),
    'Label Studio': (coco(plain, '/data/upload/3/0a1b2c3d-{}.png'), BOTH, ''),
    'Label Studio on Windows': (
        coco(plain, '..\\media\\upload\\3/0a1b2c3d-{}.png', 'images/0a1b2c3d-{}.png'),
        BOTH,
        '',
    ),
    'Label Studio, local files': (coco(plain, '/data/local-files/?d=my%20set/{}.png', 'my set/{}.png'), BOTH, ''),
    'COCO: addresses': (coco(plain, 'https://x.org/a/{}.png'), BOTH, ''),
    'COCO: two names of one file': (
        lambda root: [coco(plain)(root), alias(root)],
        'are both .*one of them needs another name',
    ),
    'ImageScope: layers': (imagescope('{}', 'Description'), BOTH, ''),
    'ImageScope: attributes': (imagescope('Layer', '{}'), BOTH, ''),
    'ImageScope: values': (imagescope('', 'Description', '{}'), BOTH, ''),
    'ImageScope: texts': (imagescope('', 'Description', '', '{}'), BOTH, ''),
    'ImageScope: no class': (imagescope('', 'Description'), 'names a class has only one class; give one name'),
    'ImageScope: two classes at once': (
        imagescope('{}', 'lymphocyte'),
        'has the classes (epithelial and lymphocyte|lymphocyte and epithelial), by',
    ),
    'ImageScope: ellipses': (imagescope('{}', kind='2', points=corners), BOTH, ''),
    'ImageScope: rectangles': (
        imagescope('{}', kind='1', points=corners),
        BOTH,
        '30 cells that are upright rectangles',
    ),
    'ImageScope: arrows': (imagescope('{}', kind='3'), 'is of type 3, an arrow'),
    'XML of Pascal VOC': (imagescope('{}', root='annotation'), 'its root is <annotation>'),
}


def alias(root):
    content = read_json(root / 'train.json')
    content['images'][1]['file_name'] = f'elsewhere/../{content["images"][0]["file_name"]}'
    (root / 'train.json').write_text(json.dumps(content))


def convert(root, write, **options):
    source = root / 'source'
    source.mkdir()
    write(source)
    return prepare(source, root / 'cells', val_fraction=0.3, workers=1, **options)


@pytest.mark.parametrize('kind', KINDS)
def test_it_is_right_or_noted(tmp_path, kind):
    write, expected, *notes = KINDS[kind]
    options = XML_CLASSES if 'ImageScope' in kind or 'XML' in kind else {}
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected) as caught:
            convert(tmp_path, write, **options)
        assert '\n' not in str(caught.value)
        return
    statistics = convert(tmp_path, write, **options)
    found = {name: sum(split[name] for split in statistics['instances'].values()) for name in statistics['classes']}
    assert found == expected and not any(statistics['ignored'].values())
    noted = [f'{entry["objects"]} {entry["note"]}' for entry in statistics.get('label_notes', [])]
    assert bool(noted) == bool(notes[0]) and re.escape(notes[0]) in re.escape(' '.join(noted))


@pytest.mark.parametrize(
    'name, text, found',
    [
        ('a.json', '{"shapes": [], "imagePath": ""}', 'a.json, LabelMe, which cannot be read'),
        ('via.json', '{"a": {"regions": [{"region_attributes": {}}]}}', 'VGG Image Annotator'),
        ('ann/a.png.json', '{"objects": [{"classTitle": ""}]}', 'Supervisely'),
        ('a.json', '[{"image_id": 1, "segmentation": []}]', 'results of COCO'),
        ('labels/train/a.txt', '0 0.1 0.1', 'as YOLO does'),
        ('a_seg.npy', '', 'Cellpose'),
        ('a.txt', '', 'unknown format'),
    ],
)
def test_files_of_other_programs_are_named(tmp_path, name, text, found):
    path = tmp_path / 'source' / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(found)):
        prepare(tmp_path / 'source', tmp_path / 'cells')


def test_coordinates_of_asap_are_in_their_order(tmp_path):
    ring = [(0, 1, 1), (2, 9, 9), (1, 9, 1), (3, 1, 9)]
    points = ''.join(f'<Coordinate Order="{order}" X="{x}" Y="{y}"/>' for order, x, y in ring)
    path = tmp_path / 'a.xml'
    path.write_text(
        f'<ASAP_Annotations><Annotations><Annotation Type="Polygon"><Coordinates>{points}</Coordinates></Annotation>'
        '</Annotations></ASAP_Annotations>'
    )
    ((_, ((outline, _),)),) = asap.read_outlines(path)
    assert outline.tolist() == [[1, 1], [9, 1], [9, 9], [1, 9]]


def test_the_part_of_a_cell_is_chosen(tmp_path):
    areas = []
    for part in ('cell', 'nucleus'):
        (tmp_path / part).mkdir()
        statistics = convert(tmp_path / part, geojson(nuclei), part=part)
        assert f'the {part} was taken' in statistics['label_notes'][0]['note']
        entries = read_json(tmp_path / part / 'cells/annotations/train.json')['annotations']
        areas.append(sum(entry['area'] for entry in entries))
    assert areas[1] / areas[0] == pytest.approx(0.49, abs=0.03)


def test_a_part_that_no_cell_has_is_an_error(tmp_path):
    with pytest.raises(UserError, match='no cell has an outline of its nucleus'):
        convert(tmp_path, maps(lambda path, ids: cv2.imwrite(f'{path}.png', ids)), part='nucleus')
    assert not (tmp_path / 'cells').exists()


def test_an_ellipse_has_the_pixels_of_one(tmp_path):
    """pi / 4 of the rectangle's."""
    areas = []
    for kind in '12':
        (tmp_path / kind).mkdir()
        convert(tmp_path / kind, imagescope('{}', kind=kind, points=corners), **XML_CLASSES)
        entries = read_json(tmp_path / kind / 'cells/annotations/train.json')['annotations']
        areas.append(sum(entry['area'] for entry in entries))
    assert areas[1] / areas[0] == pytest.approx(np.pi / 4, abs=0.02)


def test_a_mask_of_one_class_alone_needs_no_name(tmp_path):
    statistics = convert(tmp_path, imagescope('', 'Description'), classes=('nucleus',))
    assert sum(split['nucleus'] for split in statistics['instances'].values()) == 30
