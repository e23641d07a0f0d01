"""Broken input of each format: one line that names the file, or the right cells.

A kind is (format, what is done to a written set, what the line must say); for what is no mistake, in place of the line
the numbers of cells of the images.
"""

import json
import re
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import tifffile
from PIL import Image
from written_formats import HEIGHT, WIDTH, WRITTEN, id_map, make_scenes

from cellseg_mm.datasets.formats import find_format
from cellseg_mm.datasets.prepare import _check_samples
from cellseg_mm.utils import UserError

SCENES = make_scenes()[:2]
ENTITIES = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
EXTERNAL = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/hostname">]>'


def cut(name, keep=0.6):
    def damage(root):
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * keep)])

    return damage


def text(name, content=''):
    return lambda root: (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def replaced(name, old, new):
    def damage(root):
        content = (root / name).read_text()
        assert old in content
        (root / name).write_text(content.replace(old, new, 1))

    return damage


def removed(name):
    return lambda root: (root / name).unlink()


def copied(name, new):
    return lambda root: shutil.copy(root / name, root / new)


def moved(name, new):
    return lambda root: (root / name).rename(root / new)


def tiff(name, array, **options):
    return lambda root: tifffile.imwrite(root / name, array, **options)


def pyramid(name):
    """An id map and a smaller copy behind it."""

    def damage(root):
        ids = id_map(SCENES[0]).astype('u2')
        with tifffile.TiffWriter(root / name) as file:
            file.write(ids)
            file.write(ids[::2, ::2], subfiletype=1)

    return damage


def png(name, array):
    return lambda root: cv2.imwrite(str(root / name), array)


def png_header(name, side):
    """A PNG that claims a size and has no data."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0))
    return text(name, b'\x89PNG\r\n\x1a\n' + header + chunk(b'IEND', b''))


def tiff_header(name, side, dtype):
    """A TIFF that claims a size and has a few bytes of data."""

    def damage(root):
        tifffile.imwrite(root / name, np.zeros((8, 8), dtype), compression='zlib')
        with tifffile.TiffFile(root / name, mode='r+') as file:
            for tag in ('ImageWidth', 'ImageLength', 'RowsPerStrip'):
                file.pages[0].tags[tag].overwrite(side)

    return damage


def pillow(name, mode):
    return lambda root: Image.fromarray(SCENES[0].image).convert(mode).save(root / name)


def mat(change):
    """Change the content of the first MAT file, or put other content in its place."""

    def damage(root):
        path = root / MAT
        content = {key: value for key, value in scipy.io.loadmat(path).items() if key[0] != '_'}
        scipy.io.savemat(path, change(content) or content)

    return damage


def coco(change):
    """Change the content of the JSON file."""

    def damage(root):
        content = json.loads((root / JSON).read_text())
        change(content)
        (root / JSON).write_text(json.dumps(content))

    return damage


def segmentation(value):
    return coco(lambda content: content['annotations'][0].update(segmentation=value))


def file_name(value):
    return coco(lambda content: content['images'][0].update(file_name=value))


def counts(value):
    return segmentation(dict(size=[HEIGHT, WIDTH], counts=value))


def features(change):
    """Change the features of the first GeoJSON file."""

    def damage(root):
        content = json.loads((root / GEO).read_text())
        content = change(content['features']) or content
        (root / GEO).write_text(json.dumps(content))

    return damage


def old_kinds(root):
    """Up to QuPath 0.3 the kind is in place of the id; a tile, the core and all of the image are no cells."""

    def change(entries):
        kinds = ['PathRootObject', 'TMACoreObject', 'PathTileObject', 'PathAnnotationObject']
        frames = [dict(entries[0], id=kind) for kind in kinds]
        for entry in (*frames, *entries[1:]):
            entry['properties'] = {key: value for key, value in entry['properties'].items() if key != 'objectType'}
        return frames + [entries[1]] + [dict(entry, id='PathCellObject') for entry in entries[2:]]

    features(change)(root)


def geometry(kind, coordinates):
    return features(lambda entries: entries[2].update(geometry=dict(type=kind, coordinates=coordinates)))


def infinite(root):
    geometry('Polygon', [[[12345, 1], *SQUARE]])(root)
    replaced(GEO, '12345', '1e999')(root)


XML = 'train/p1/p1_1.xml'
MAT = 'Train/Labels/p1_1.mat'
MASK = 'train/p1_1_masks.tif'
IMAGE = 'train/p1_1.tif'
JSON = 'annotations/instances_train.json'
GEO = 'train/p1_1.geojson'
PIXELS = HEIGHT * WIDTH
SQUARE = [[1, 1], [5, 1], [5, 5], [1, 5]]

KINDS = {
    # ImageScope XML
    'XML truncated': ('monusac', cut(XML), 'p1_1.xml: is not complete XML'),
    'XML empty': ('monusac', text(XML), 'is not complete XML'),
    'XML of bytes': ('monusac', text(XML, bytes(range(256))), 'is not complete XML'),
    'XML in an unknown encoding': (
        'monusac',
        text(XML, '<?xml version="1.0" encoding="x-no"?><a/>'),
        'is not complete XML',
    ),
    'XML with entity expansion': ('monusac', text(XML, f'{ENTITIES}<a>&b;</a>'), 'document type'),
    'XML with an external entity': ('monusac', text(XML, f'{EXTERNAL}<a>&a;</a>'), 'document type'),
    'XML of another kind': ('monusac', text(XML, '<svg/>'), 'its root is <svg>'),
    'XML without its image': ('monusac', removed('train/p1/p1_1.tif'), 'p1_1.xml: no image p1_1 for'),
    'image without its XML': ('monusac', removed(XML), 'p1_1.tif: no labels'),
    'XML class unknown': (
        'monusac',
        replaced(XML, 'Name="Lymphocyte"', 'Name="Plasma"'),
        "class 'Plasma' is not one of",
    ),
    'XML vertex nan': ('monusac', replaced(XML, 'X="', 'X="nan" x="'), 'epithelial region 1: .*finite'),
    'XML vertex infinite': ('monusac', replaced(XML, 'X="', 'X="1e999" x="'), 'finite'),
    'XML vertex text': ('monusac', replaced(XML, 'X="', 'X="left" x="'), 'not a list of points'),
    'XML vertex without X': ('monusac', replaced(XML, 'X="', 'x="'), 'not a list of'),
    'XML hole': ('monusac', replaced(XML, 'NegativeROA="0"', 'NegativeROA="1"'), 'is a hole'),
    'XML region without vertices': ('monusac', replaced(XML, '<Regions>', '<Regions><Region />'), [6, 6]),
    'XML twice': ('monusac', copied(XML, 'train/p1/p1_1.XML'), 'p1_1.XML beside it has the same name, p1_1'),
    'SVS truncated': ('monusac', cut('train/p1/p1_2.svs'), 'p1_2.svs: is'),
    # MAT
    'MAT truncated': ('hovernet', cut(MAT), 'p1_1.mat: is'),
    'MAT empty': ('hovernet', text(MAT), 'is not a MAT file'),
    'MAT of text': ('hovernet', text(MAT, 'hello' * 99), 'is not a MAT file'),
    'MAT of version 7.3': (
        'hovernet',
        text(MAT, b'MATLAB 7.3 MAT-file'.ljust(124) + b'\0\2IM' + b'\x89HDF\r\n' * 99),
        'MAT file up to',
    ),
    'MAT without inst_map': ('hovernet', mat(lambda content: dict(x=1)), 'inst_map is missing'),
    'MAT of another size': (
        'hovernet',
        mat(lambda content: content.update(inst_map=content['inst_map'][1:])),
        'inst_map is',
    ),
    'MAT ids negative': (
        'hovernet',
        mat(lambda content: content.update(inst_map=-content['inst_map'])),
        'not be negative',
    ),
    'MAT ids fractional': (
        'hovernet',
        mat(lambda content: content.update(inst_map=content['inst_map'] / 7)),
        'whole numbers',
    ),
    'MAT ids nan': (
        'hovernet',
        mat(lambda content: content.update(inst_map=content['inst_map'] * np.nan)),
        'found nan',
    ),
    'MAT ids complex': ('hovernet', mat(lambda content: content.update(inst_map=content['inst_map'] * 1j)), 'complex'),
    'MAT types too few': (
        'hovernet',
        mat(lambda content: content.update(inst_type=content['inst_type'][1:])),
        '5 in inst_type, but 6',
    ),
    'MAT types beyond': (
        'hovernet',
        mat(lambda content: content.update(inst_type=content['inst_type'] + 1)),
        'type 4, but 3',
    ),
    'MAT types zero': (
        'hovernet',
        mat(lambda content: content.update(inst_type=content['inst_type'] * 0)),
        'type 0, but 3',
    ),
    'MAT types nan': (
        'hovernet',
        mat(lambda content: content.update(inst_type=content['inst_type'] * np.nan)),
        'type nan, but',
    ),
    'MAT types of text': (
        'hovernet',
        mat(lambda content: content.update(inst_type=np.array(list('abcdef'), object))),
        'must hold numbers',
    ),
    'MAT type map of zeros': (
        'hovernet',
        mat(lambda content: dict(inst_map=content['inst_map'], type_map=np.zeros((HEIGHT, WIDTH)))),
        'type 0, but 3',
    ),
    'MAT types beyond the image': (
        'hovernet',
        mat(lambda content: content.update(inst_type=np.zeros((HEIGHT, 999)))),
        'inst_type is .64, 999.',
    ),
    'MAT without types': (
        'hovernet',
        mat(lambda content: dict(inst_map=content['inst_map'])),
        'no inst_type and no type_map',
    ),
    'MAT without a cell': (
        'hovernet',
        mat(lambda content: dict(inst_map=np.zeros((HEIGHT, WIDTH)), inst_type=np.zeros((0, 1)))),
        [0, 6],
    ),
    'MAT without its image': ('hovernet', removed('Train/Images/p1_1.png'), 'p1_1.mat: no image p1_1'),
    'image without its MAT': ('hovernet', removed(MAT), 'p1_1.png: no labels'),
    # id maps
    'map empty': ('cellpose', text(MASK), 'not readable as a mask'),
    'map truncated': ('cellpose', cut(MASK), 'not readable as a mask'),
    'map of text': ('cellpose', text(MASK, 'hello'), 'not readable as a mask'),
    'map off by a pixel': (
        'cellpose',
        tiff(MASK, np.ones((HEIGHT, WIDTH + 1), 'u2')),
        '97x64 px, but its image has 96x64',
    ),
    'map turned': ('cellpose', tiff(MASK, np.ones((WIDTH, HEIGHT), 'u2')), '64x96 px'),
    'map of colours': ('cellpose', tiff(MASK, np.ones((HEIGHT, WIDTH, 3), 'u1'), photometric='rgb'), 'one channel'),
    'map negative': ('cellpose', tiff(MASK, np.full((HEIGHT, WIDTH), -1, 'i4')), 'not be negative'),
    'map fractional': ('cellpose', tiff(MASK, np.full((HEIGHT, WIDTH), 0.5, 'f4')), 'whole numbers, found 0.5'),
    'map nan': ('cellpose', tiff(MASK, np.full((HEIGHT, WIDTH), np.nan, 'f4')), 'found nan'),
    'map of ids without bounds': ('cellpose', tiff(MASK, (id_map(SCENES[0]) << 59).astype('u8')), [6, 6]),
    'map big-endian': ('cellpose', tiff(MASK, id_map(SCENES[0]).astype('>f8'), byteorder='>'), [6, 6]),
    'map compressed': ('cellpose', tiff(MASK, id_map(SCENES[0]).astype('u4'), compression='zlib'), [6, 6]),
    'map without a cell': ('cellpose', tiff(MASK, np.zeros((HEIGHT, WIDTH), 'u2')), [0, 6]),
    'map of 30,000 px without data': ('cellpose', tiff_header(MASK, 30_000, 'u2'), 'cut it into tiles|not readable'),
    'map of three pages': (
        'cellpose',
        tiff(MASK, np.stack([id_map(SCENES[0])] * 3).astype('u2'), photometric='minisblack'),
        'has 3 pages',
    ),
    'map with a smaller copy': ('cellpose', pyramid(MASK), [6, 6]),
    'map of cells and background alone': (
        'cellpose',
        tiff(MASK, (id_map(SCENES[0]) > 0).astype('u1')),
        'its 1 cells are in 6 separate parts, one in 6',
    ),
    'map without its image': ('cellpose', removed(IMAGE), 'p1_1_masks.tif: no image p1_1'),
    'image without its map': ('cellpose', removed(MASK), 'p1_1.tif: no labels'),
    'two images of one map': ('cellpose', copied(IMAGE, 'train/p1_1_img.tif'), 'p1_1.tif beside it has the same name'),
    'two images of one name': ('cellpose', copied(IMAGE, 'train/p1_1.png'), 'has the same name'),
    # images
    'image empty': ('cellpose', text(IMAGE), 'p1_1.tif: is empty'),
    'image truncated': ('cellpose', cut(IMAGE), 'p1_1.tif: is cut off'),
    'image of text': ('cellpose', text(IMAGE, 'hello'), 'is not a PNG'),
    'image of another ending': (
        'cellpose',
        lambda root: Image.fromarray(SCENES[0].image).save(root / IMAGE, 'png'),
        [6, 6],
    ),
    'image of 1 px': ('cellpose', tiff(IMAGE, np.zeros((1, 1, 3), 'u1'), photometric='rgb'), '1x1 px; at least 8'),
    'image of nan': ('cellpose', tiff(IMAGE, np.full((HEIGHT, WIDTH), np.nan, 'f4')), 'nan'),
    'image of 16 bits': ('cellpose', tiff(IMAGE, SCENES[0].image.astype('u2') * 257, photometric='rgb'), [6, 6]),
    'image grey': ('cellpose', tiff(IMAGE, SCENES[0].image[..., 0]), [6, 6]),
    'image CMYK': ('cellpose', pillow(IMAGE, 'CMYK'), [6, 6]),
    'image with a palette': ('cellpose', pillow(IMAGE, 'P'), [6, 6]),
    'image of five channels': (
        'cellpose',
        tiff(IMAGE, np.zeros((HEIGHT, WIDTH, 5), 'u1'), photometric='rgb'),
        '5 channels',
    ),
    'TIFF of 30,000 px without data': ('cellpose', tiff_header(IMAGE, 30_000, 'u1'), 'p1_1.tif: '),
    'PNG of 30,000 px without data': ('geojson', png_header('train/p1_1.png', 30_000), 'p1_1.png: more than'),
    'PNG of 11,000 px without data': ('geojson', png_header('train/p1_1.png', 11_000), 'p1_1.png: is damaged'),
    # COCO
    'JSON truncated': ('coco', cut(JSON), 'instances_train.json: is not valid JSON'),
    'JSON empty': ('coco', text(JSON), 'is not valid JSON'),
    'JSON with nan': ('coco', replaced(JSON, '"iscrowd": 0', '"iscrowd": NaN'), 'NaN is not a JSON number'),
    'JSON nested without end': ('coco', text(JSON, '[' * 100_000), 'is not valid JSON'),
    'JSON not UTF-8': ('coco', text(JSON, b'\xff\xfe\x00'), 'is not valid JSON'),
    'JSON a list': ('coco', text(JSON, '[1]'), 'not a COCO annotation file'),
    'JSON without images': ('coco', coco(lambda content: content.pop('images')), 'no list of images'),
    'JSON without categories': (
        'coco',
        coco(lambda content: content.update(categories=[])),
        'category 7, which is not listed',
    ),
    'annotation of an unknown image': (
        'coco',
        coco(lambda content: content['annotations'][0].update(image_id=5)),
        'image 5, which',
    ),
    'annotation of an unknown class': (
        'coco',
        coco(lambda content: content['annotations'][0].update(category_id=5)),
        'annotation 1: category 5, which is not listed',
    ),
    'annotation without a mask': (
        'coco',
        coco(lambda content: content['annotations'][0].pop('segmentation')),
        'annotation 1: has no',
    ),
    'image not there': ('coco', file_name('none.tif'), "no image 'none.tif'"),
    'name with path traversal': ('coco', file_name('../../etc/passwd'), 'leads out of the folder'),
    'name absolute': ('coco', file_name('/etc/passwd'), 'leads out of the folder'),
    'name with backslashes': ('coco', file_name('..\\..\\x.tif'), 'leads out of the folder'),
    'name with a drive': ('coco', file_name('C:\\x.tif'), 'leads out of the folder'),
    'name with a null': ('coco', file_name('a\0.tif'), 'leads out of the folder'),
    'name no text': ('coco', file_name(5), 'not a COCO annotation file'),
    'name given twice': (
        'coco',
        coco(lambda content: content['images'].append(dict(content['images'][0], id=1))),
        'another name',
    ),
    'id of two images': (
        'coco',
        coco(lambda content: content['images'].append(dict(content['images'][0], file_name='x.tif'))),
        "images 'p1_1.tif' and 'x.tif' have the same id 100",
    ),
    'id of two categories': (
        'coco',
        coco(lambda content: content['categories'].append(dict(id=7, name='x'))),
        "categories 'epithelial' and 'x' have the same id 7",
    ),
    'stated size wrong': (
        'coco',
        coco(lambda content: content['images'][0].update(width=95)),
        r'in an image of .64, 95.',
    ),
    'two files of a split': ('coco', copied(JSON, 'annotations/train_old.json'), 'is train too'),
    'polygon of odd length': ('coco', segmentation([[1, 2, 3]]), 'annotation 1: a polygon must be a list'),
    'polygon with null': ('coco', segmentation([[1, None, 3, 4, 5, 6]]), 'finite|not a list of points'),
    'polygon with text': ('coco', segmentation([['a', 'b', 3, 4]]), 'not a list of points'),
    'polygon infinite': ('coco', replaced(JSON, '"segmentation": [[', '"segmentation": [[1e999, 1, '), 'finite'),
    'polygon crossed, its loops alike': ('coco', segmentation([[1, 1, 9, 9, 9, 1, 1, 9]]), [6, 6]),
    'polygon without a point': ('coco', segmentation([[]]), [5, 6]),
    'polygons none': ('coco', segmentation([]), 'annotation 1: has a box but no outline'),
    'polygon beyond the image': ('coco', segmentation([[-9, -9, 999, -9, 999, 999, -9, 999]]), [5, 6]),
    'code of another size': ('coco', segmentation(dict(size=[WIDTH, HEIGHT], counts=[PIXELS])), 'a mask of'),
    'code without size': ('coco', segmentation(dict(counts=[PIXELS])), 'a mask of None'),
    'counts huge': ('coco', counts([10**18]), 'from 0 to 6144'),
    'counts huge in all': ('coco', counts([PIXELS] * 1000), 'runs over 6144000 px'),
    'counts negative': ('coco', counts([-5, PIXELS + 5]), 'from 0 to'),
    'counts fractional': ('coco', counts([0.5, PIXELS - 0.5]), 'from 0 to'),
    'counts too few': ('coco', counts([5, 5]), 'runs over 10 px'),
    'counts of a broken text': ('coco', counts('~~~'), 'a character outside'),
    'counts of a cut text': ('coco', counts('X'), 'ends within a number'),
    'counts of a huge text': ('coco', counts('oooooooooooooooooooo0'), 'beyond any image'),
    'counts null': ('coco', counts(None), 'a string or a list'),
    'cells of one place': (
        'coco',
        coco(lambda content: content['annotations'].extend([content['annotations'][0]] * 99)),
        'more than 64',
    ),
    'crowd of all the image': (
        'coco',
        coco(
            lambda content: content['annotations'][0].update(
                iscrowd=1, segmentation=dict(size=[HEIGHT, WIDTH], counts=[0, PIXELS])
            )
        ),
        [5, 6],
    ),
    # GeoJSON
    'GeoJSON truncated': ('geojson', cut(GEO), 'p1_1.geojson: is not valid JSON'),
    'GeoJSON a number': ('geojson', text(GEO, '5'), 'is not GeoJSON'),
    'GeoJSON of nothing': ('geojson', text(GEO, '[]'), [0, 6]),
    'GeoJSON with a null feature': ('geojson', text(GEO, '[null]'), 'feature 0: has no geometry'),
    'GeoJSON a bare geometry': ('geojson', text(GEO, '{"type": "Polygon"}'), 'has no geometry'),
    'GeoJSON of a list of features': ('geojson', features(lambda entries: entries), [6, 6]),
    'GeoJSON point': ('geojson', geometry('Point', [1, 2]), 'feature 2: is a Point'),
    'GeoJSON without coordinates': ('geojson', geometry('Polygon', None), 'not lists of rings'),
    'GeoJSON coordinates too flat': ('geojson', geometry('Polygon', [1, 2]), 'not a list of'),
    'GeoJSON coordinates too deep': ('geojson', geometry('Polygon', [[SQUARE]]), 'not a list of'),
    'GeoJSON coordinates infinite': ('geojson', infinite, 'finite'),
    'GeoJSON with heights': ('geojson', geometry('MultiPolygon', [[[[*point, 7] for point in SQUARE]]]), [6, 6]),
    'GeoJSON classification a text': (
        'geojson',
        features(lambda entries: entries[2]['properties'].update(classification='a')),
        'not a JSON object',
    ),
    'GeoJSON properties a list': (
        'geojson',
        features(lambda entries: entries[2].update(properties=[1])),
        'not a JSON object',
    ),
    'GeoJSON properties null': ('geojson', features(lambda entries: entries[2].update(properties=None)), [6, 6]),
    'GeoJSON of QuPath 0.3': ('geojson', old_kinds, [6, 6]),
    'GeoJSON outside the image': (
        'geojson',
        features(
            lambda entries: [
                dict(entries[2], geometry=dict(type='Polygon', coordinates=[[[900, 900], [950, 900], [950, 950]]]))
            ]
        ),
        '1 of its 1 outlines have no pixel',
    ),
    'GeoJSON of no image': ('geojson', moved(GEO, 'train/x.geojson'), 'x.geojson: no image x'),
    'image without GeoJSON': ('geojson', removed(GEO), 'p1_1.png: no labels'),
    # folders
    'folder that leads to itself': (
        'monusac',
        lambda root: (root / 'train' / 'loop').symlink_to(root / 'train'),
        [6, 6],
    ),
    'link that leads to itself': (
        'cellpose',
        lambda root: (root / 'train' / 'x.tif').symlink_to(root / 'train' / 'x.tif'),
        'x.tif',
    ),
    'hidden files': ('cellpose', copied(IMAGE, 'train/._p1_1.tif'), [6, 6]),
    'name not ASCII': (
        'geojson',
        lambda root: [moved(f'train/p1_1.{kind}', f'train/Zellkérn 細胞.{kind}')(root) for kind in ('png', 'geojson')],
        [6, 6],
    ),
    'name very long': (
        'geojson',
        lambda root: [moved(f'train/p1_1.{kind}', f'train/{"x" * 220}.{kind}')(root) for kind in ('png', 'geojson')],
        'name is too long',
    ),
    'labels of two formats': ('geojson', text('train/p1_1.xml', '<a/>'), 'looks like monusac and geojson'),
}


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A set of two images in each format."""
    roots = {}
    for name, (write, *_) in WRITTEN.items():
        roots[name] = tmp_path_factory.mktemp(name) / 'source'
        (write if name != 'cellpose' else lambda root, scenes: write_pairs(root))(roots[name], SCENES)
    return roots


def write_pairs(root: Path) -> None:
    (root / 'train').mkdir(parents=True)
    for scene in SCENES:
        tifffile.imwrite(root / 'train' / f'{scene.name}.tif', scene.image)
        tifffile.imwrite(root / 'train' / f'{scene.name}_masks.tif', id_map(scene).astype(np.uint16))


@pytest.mark.parametrize('kind', KINDS)
def test_it_is_right_or_gives_one_line(written, tmp_path, kind):
    name, damage, expected = KINDS[kind]
    root = shutil.copytree(written[name], tmp_path / 'source')
    damage(root)

    def read():
        module = find_format(root, 'auto' if kind == 'labels of two formats' else name)
        samples, _ = module.find_samples(root, WRITTEN[name][1])
        _check_samples(root, samples)
        shapes = [(sample, sample.read_image()[0].shape) for sample in samples]
        assert all(shape == (HEIGHT, WIDTH, 3) for _, shape in shapes)
        found = [sample.read_labels(shape[:2]) for sample, shape in shapes]
        return [int(np.count_nonzero(~instances.is_ignored)) for instances in found]

    if isinstance(expected, list):
        assert sorted(read()) == sorted(expected)
        return
    with pytest.raises(UserError, match=expected) as caught:
        read()
    assert '\n' not in str(caught.value) and str(root) in str(caught.value)


def test_the_table_in_the_docs_has_each_kind():
    text = (Path(__file__).parents[2] / 'docs/reliability.md').read_text('utf-8')
    rows = {cells[1].strip(): cells[3] for line in text.splitlines() if len(cells := line.split('|')) == 5}
    for kind, (_, _, expected) in KINDS.items():
        assert re.search('read: ' if isinstance(expected, list) else expected, rows[kind]), kind
