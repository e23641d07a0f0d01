"""What the layouts of public data sets say beside the pixels: splits, patients, classes; and what is refused.

That each arrives pixel by pixel is in test_formats.py.
"""

import json
import shutil
import tracemalloc

import numpy as np
import pytest
import scipy.io
import tifffile
from conftest import read_json
from written_datasets import EVERY, FORMAT_OF, coco_content, save_png, write_table
from written_formats import CLASSES, HEIGHT, WIDTH, id_map, make_scenes

from cellseg_mm.datasets import prepare
from cellseg_mm.datasets.formats import FORMATS, find_format
from cellseg_mm.datasets.formats.tnbc import TNBCSample
from cellseg_mm.utils import UserError

SCENES = make_scenes()


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """The seven scenes in each layout that this file is about."""
    names = ['hovernet', *list(EVERY)[list(EVERY).index('pannuke') :]]
    roots = {name: tmp_path_factory.mktemp(name) / 'source' for name in names}
    for name, root in roots.items():
        EVERY[name][0](root, SCENES)
    return roots


@pytest.fixture
def copied(written, tmp_path):
    """A copy of the set in a layout, which the test may change."""
    return lambda name: shutil.copytree(written[name], tmp_path / name)


def find(root, classes=None):
    return find_format(root).find_samples(root, classes)


def splits_of(samples):
    found = {}
    for sample in samples:
        found.setdefault(sample.split, set()).add(sample.name)
    return found


@pytest.mark.parametrize(
    ('name', 'classes'),
    [
        ('pannuke', ('neoplastic', 'inflammatory', 'connective', 'dead', 'epithelial')),
        ('conic', ('neutrophil', 'epithelial', 'lymphocyte', 'plasma', 'eosinophil', 'connective')),
        ('lizard', ('neutrophil', 'epithelial', 'lymphocyte', 'plasma', 'eosinophil', 'connective')),
        *((name, ('cell',)) for name in ('monuseg', 'nuinsseg', 'dsb2018', 'tnbc')),
    ],
)
def test_classes_have_their_names(written, name, classes):
    assert find(written[name])[1] == classes
    if len(classes) == 1:
        assert find(written[name], ('nucleus',))[1] == ('nucleus',)
        with pytest.raises(UserError, match=r'--classes a b: .* has only one class'):
            find(written[name], ('a', 'b'))


# PanNuke


def test_an_image_of_pannuke_costs_its_own_bytes_alone(tmp_path):
    """Files of 9.7 and 3.9 GB, which are holes on the disk but for the last image."""
    count, side = 2_500, 256
    for kind, channels in (('masks', 6), ('images', 3)):
        (tmp_path / 'fold1').mkdir(exist_ok=True)
        shape = (count, side, side, channels)
        array = np.lib.format.open_memmap(tmp_path / f'fold1/{kind}.npy', 'w+', np.float64, shape)
        array[-1, 40:50, 60:80, 1] = 7
        del array
    samples, _ = find(tmp_path)
    tracemalloc.start()
    image, _, _ = samples[-1].read_image()
    cells = samples[-1].read_instances((side, side))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(samples) == count and image.sum() == 7 * 200 and (cells.layers == 1).sum() == 200
    assert cells.labels.tolist() == [2] and peak < 20e6


@pytest.mark.parametrize('first', [0, 1])
def test_the_third_fold_of_pannuke_is_its_test_split(copied, first):
    """As distributed, and with folds that count from 0 in folders of their own."""
    root = copied('pannuke')
    if not first:
        for number in (1, 2, 3):
            place = root / f'fold{number - 1}'
            place.mkdir()
            for kind in ('images', 'masks'):
                (root / f'Fold {number}/{kind}/fold{number}/{kind}.npy').rename(place / f'{kind}.npy')
            shutil.rmtree(root / f'Fold {number}')
    found = splits_of(find(root)[0])
    assert found == dict(
        train={f'fold{fold}_{index:04d}' for fold, index in np.ndindex(2, 3) for fold in [fold + first]},
        test={f'fold{2 + first}_0000'},
    )


def test_folders_tell_other_splits_of_pannuke(copied):
    root = copied('pannuke')
    for number, split in ((3, 'train'), (2, 'val'), (1, 'test')):
        (root / split).mkdir()
        (root / f'Fold {number}').rename(root / split / f'Fold {number}')
    found = splits_of(find(root)[0])
    assert {split: {name[:5] for name in names} for split, names in found.items()} == dict(
        train={'fold3'}, val={'fold2'}, test={'fold1'}
    )


def test_a_fold_of_pannuke_alone_is_for_training(copied):
    root = copied('pannuke')
    assert {sample.split for sample in find(root / 'Fold 1')[0]} == {'train'}
    shutil.rmtree(root / 'Fold 1')
    shutil.rmtree(root / 'Fold 2')
    assert {sample.split for sample in find(root)[0]} == {'train'}


def test_cells_of_two_classes_of_pannuke_may_overlap(copied):
    """The ids of a channel are its own, and no pixel is lost."""
    root = copied('pannuke')
    path = root / 'Fold 1/masks/fold1/masks.npy'
    masks = np.load(path)
    masks[0] = 0
    masks[0, 5:15, 5:15, 0], masks[0, 10:20, 10:20, 1] = 4, 4
    np.save(path, masks)
    cells = find(root)[0][0].read_instances((HEIGHT, WIDTH))
    assert cells.labels.tolist() == [1, 2]
    assert [(cells.layers == number).sum() for number in (1, 2)] == [100, 100]


# splits, patients and images


def test_lizard_without_its_table_is_for_training(copied):
    root = copied('lizard')
    (root / 'Lizard_Labels/info.csv').unlink()
    assert {sample.split for sample in find(root)[0]} == {'train'}


def test_types_by_id_in_the_layout_of_hovernet(copied):
    """Lizard's MAT files, moved there: the types are looked up by the ids, which do not rise."""
    root = copied('hovernet')
    samples, _ = find(root, CLASSES)
    expected = {}
    for index, sample in enumerate(samples):
        ids = np.unique(scipy.io.loadmat(sample.source)['inst_map'])[1:]
        types = 1 + np.arange(len(ids)) % 2
        order = np.random.default_rng(index).permutation(len(ids))
        content = {'inst_map': scipy.io.loadmat(sample.source)['inst_map'], 'id': ids[order], 'class': types[order]}
        scipy.io.savemat(sample.source, content)
        expected[sample.name] = types.tolist()
    with pytest.raises(UserError, match=r'name them in order with --classes, .* for Lizard: neutrophil'):
        find(root)
    found = {sample.name: sample.read_instances((HEIGHT, WIDTH)).labels.tolist() for sample in find(root, CLASSES)[0]}
    assert found == expected


@pytest.mark.parametrize(
    ('name', 'groups'),
    [
        ('conic', {'p1', 'p2', 'p3', 'p4'}),
        ('tnbc', {'Slide_01', 'Slide_02', 'Slide_03', 'Slide_04'}),
        ('monuseg', {'p1', 'p2', 'p3', 'p4'}),
        ('roboflow', {f'{scene.name}_png' for scene in SCENES}),
    ],
)
def test_what_was_cut_from_one_stays_together(written, tmp_path, name, groups):
    samples, _ = find(written[name])
    assert {sample.group for sample in samples} == groups
    if name != 'roboflow':
        prepare(written[name], tmp_path / 'cells', None, 0.3, workers=1)
        images = [read_json(tmp_path / f'cells/annotations/{split}.json')['images'] for split in ('train', 'val')]
        train, val = ({image['file_name'][:2] for image in entries} for entries in images)
        assert len(train) == 2 and len(val) == 1 and not train & val


def test_patches_of_conic_without_names_are_on_their_own(copied):
    root = copied('conic')
    (root / 'train/patch_info.csv').unlink()
    (root / 'test/labels.npy').unlink()
    samples, _ = find(root)
    assert [sample.name for sample in samples[:2]] == ['train_0000', 'train_0001']
    assert {sample.group for sample in samples if sample.split == 'train'} == {None}
    assert [sample.name for sample in samples if sample.source is None] == ['p4-0001']
    assert samples[-1].read_image()[0].tolist() == SCENES[-1].image.tolist()


@pytest.mark.parametrize('name', ['monuseg', 'dsb2018', 'nuinsseg', 'tnbc'])
def test_images_of_test_may_come_without_labels(copied, name):
    root = copied(name)
    samples, _ = find(root)
    source = samples[-1].source
    for path in source if isinstance(source, list) else [source[0] if isinstance(source, tuple) else source]:
        path.unlink()
    shutil.rmtree(root / 'test/human organ 0/label masks', ignore_errors=True)
    assert [sample.source is None for sample in find(root)[0]] == [False] * 6 + [True]


def test_monuseg_unpacked_into_folders_of_the_zips_names_or_renamed(copied):
    """In each of the ways that its readers know."""
    root = copied('monuseg')
    expected = splits_of(find(root)[0])
    for name in ('MoNuSeg 2018 Training Data', 'MoNuSegTestData'):
        (root / name).rename(root / 'inner')
        (root / name).mkdir()
        (root / 'inner').rename(root / name / name)
    assert splits_of(find(root)[0]) == expected
    (root / 'MoNuSegTestData/MoNuSegTestData').rename(root / 'testing')
    training = root / 'MoNuSeg 2018 Training Data/MoNuSeg 2018 Training Data'
    (training / 'Tissue Images').rename(training / 'images')
    (training / 'Annotations').rename(training / 'labels')
    training.rename(root / 'training')
    for name in ('MoNuSeg 2018 Training Data', 'MoNuSegTestData'):
        (root / name).rmdir()
    assert splits_of(find(root)[0]) == expected


def test_xml_of_imagescope_says_the_pixel_size_that_images_lack(copied):
    root = copied('monuseg')
    samples, _ = find(root)
    assert {sample.read_image()[2] for sample in samples} == {0.252}
    sample = samples[0]
    text = sample.source.read_text()
    for value in ('unknown', '', '0', '1e9'):
        sample.source.write_text(text.replace('MicronsPerPixel="0.252"', f'MicronsPerPixel="{value}"'))
        assert sample.read_image()[2] is None
    sample.source.write_text(text)
    image = sample.read_image()[0].copy()  # the file is mapped, and is written next
    tifffile.imwrite(sample.image, image, photometric='rgb', resolution=(2e4, 2e4), resolutionunit='CENTIMETER')
    assert sample.read_image()[2] == pytest.approx(0.5)


def test_xml_that_names_classes_is_not_monusegs(copied):
    """A file with a class beside some without any is refused; a set in which they have classes is MoNuSAC's."""
    root = copied('monuseg')
    paths = sorted(root.rglob('*.xml'))
    path = next(path for path in paths if path.stem == 'p2_1')
    path.write_text(path.read_text().replace('Name=""', 'Name="Epithelial"', 1))
    with pytest.raises(UserError, match=r"p2_1.xml: class 'Epithelial' is not one of cell"):
        find(root)
    flat = root / 'flat'
    flat.mkdir()
    for path in paths:
        path.write_text(path.read_text().replace('Name=""', 'Name="Epithelial"', 1))
        for file in (path, next(root.rglob(f'{path.stem}.tif'))):
            file.rename(flat / file.name)
    assert find_format(flat) is FORMATS['monusac']


def test_label_masks_of_nuinsseg_are_read_where_no_others_are(copied):
    root = copied('nuinsseg')
    expected = [sample.read_instances((HEIGHT, WIDTH)).labels.tolist() for sample in find(root)[0]]
    for place in root.glob('*/*/label masks modify'):
        shutil.rmtree(place)
    for place in root.glob('*/*/vague areas/mask binary'):
        place.rename(place.with_name('mask binary_vague'))
    assert [sample.read_instances((HEIGHT, WIDTH)).labels.tolist() for sample in find(root)[0]] == expected
    assert all(labels == [1] * 6 + [0] for labels in expected)
    layers = [sample.read_instances((HEIGHT, WIDTH)).layers[0] for sample in find(root)[0]]
    assert all(set(np.unique(layer)) == set(range(8)) for layer in layers)  # the vague area covers one nucleus
    for place in root.glob('*/*/vague areas'):
        shutil.rmtree(place)
    assert all(not sample.read_instances((HEIGHT, WIDTH)).is_ignored.any() for sample in find(root)[0])


def test_masks_of_dsb2018_that_overlap_lose_nothing(copied):
    root = copied('dsb2018')
    place = root / 'stage1_train/p1_1/masks'
    masks = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    masks[0, 5:15, 5:25], masks[1, 10:30, 20:30] = 255, 1
    shutil.rmtree(place)
    for index, mask in enumerate([*masks, np.zeros_like(masks[0])]):
        save_png(place / f'{index}.png', mask)
    cells = find(root)[0][0].read_instances((HEIGHT, WIDTH))
    assert [(cells.layers == number).sum() for number in (1, 2)] == [200, 200] and cells.left_out == 1


def test_the_stages_of_dsb2018_need_not_be_there(copied):
    root = copied('dsb2018')
    samples, _ = find(root / 'stage1_train')
    assert [(sample.name, sample.split) for sample in samples] == [(scene.name, 'train') for scene in SCENES[:6]]


def test_a_mask_of_types_is_not_taken_for_ids(tmp_path):
    """In TNBC's layout other sets have maps of types; ids some of which are in two places are ids."""
    ids = id_map(SCENES[0])
    types = np.where(ids, 1 + ids % 2, 0).astype(np.uint8)
    save_png(tmp_path / 'types.png', types)
    with pytest.raises(UserError, match=r'types.png: 2 of its 2 values lie in several places'):
        TNBCSample('x', 'train', tmp_path / 'x.png', tmp_path / 'types.png', ('cell',)).read_instances(ids.shape)
    row, col = np.argwhere(ids == 0)[0]
    ids[row, col] = 3
    save_png(tmp_path / 'ids.png', ids.astype(np.uint8))
    sample = TNBCSample('x', 'train', tmp_path / 'x.png', tmp_path / 'ids.png', ('cell',))
    assert len(sample.read_instances(ids.shape).labels) == 6


def test_nuclei_of_tnbc_hang_together_by_corners(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:10, 5:10], mask[10:15, 10:15], mask[20:30, 20:30] = 255, 255, 255
    save_png(tmp_path / 'mask.png', mask)
    sample = TNBCSample('x', 'train', tmp_path / 'x.png', tmp_path / 'mask.png', ('cell',))
    assert len(sample.read_instances(mask.shape).labels) == 2


# exports in COCO's format


def export(root, categories, name='annotations/instances_default.json', **changes):
    """Two scenes as one file of COCO."""
    content = coco_content(SCENES[:2], [f'{scene.name}.png' for scene in SCENES[:2]], categories)
    for entry in content['annotations']:
        entry.update(changes)
    (root / name).parent.mkdir(parents=True)
    for scene in SCENES[:2]:
        save_png(root / f'images/default/{scene.name}.png', scene.image)
    (root / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ('above', 'classes'),
    [
        (['none', 'cells', 'cells'], CLASSES),  # Roboflow's root
        (['cells', 'cells', 'cells'], CLASSES),  # which may be above itself
        (['none', 'none', 'none'], ('cells', *CLASSES)),  # a class without an annotation
        (['', '', ''], ('cells', *CLASSES)),  # CVAT's
        (['none', 'animal', 'animal'], ('cells', *CLASSES)),
    ],
)
def test_the_root_of_a_tree_of_categories_is_not_a_class(tmp_path, above, classes):
    names = ('cells', *CLASSES)
    categories = [dict(id=number, name=name, supercategory=above[number]) for number, name in enumerate(names)]
    export(tmp_path, categories)
    samples, found = find(tmp_path)
    assert found == classes
    first = classes.index(CLASSES[0]) + 1
    assert samples[0].read_instances((HEIGHT, WIDTH)).labels.tolist() == [first, first + 1] * 3


def test_a_root_with_an_annotation_is_a_class(tmp_path):
    names = ('cells', *CLASSES)
    export(tmp_path, [dict(id=number, name=name, supercategory='cells') for number, name in enumerate(names)])
    path = tmp_path / 'annotations/instances_default.json'
    content = read_json(path)
    content['annotations'][0]['category_id'] = 0
    path.write_text(json.dumps(content))
    samples, found = find(tmp_path)
    assert found == names and samples[0].read_instances((HEIGHT, WIDTH)).labels.tolist() == [1, 3, 2, 3, 2, 3]


def test_a_task_of_cvat_is_for_training(tmp_path):
    """And COCO's files of other tasks beside it are passed over."""
    export(tmp_path, [dict(id=number, name=name, supercategory='') for number, name in enumerate(CLASSES, start=1)])
    for name in ('captions_default', 'person_keypoints_default', 'image_info_default'):
        (tmp_path / f'annotations/{name}.json').write_text('{"annotations": []}')
    samples, classes = find(tmp_path)
    assert classes == CLASSES and splits_of(samples) == dict(train={'p1_1', 'p1_2'})


def test_boxes_are_not_cells(tmp_path):
    export(tmp_path, [dict(id=number, name=name) for number, name in enumerate(CLASSES)], segmentation=[])
    with pytest.raises(UserError, match='annotation 1: has a box but no outline'):
        find(tmp_path)[0][0].read_instances((HEIGHT, WIDTH))


def test_the_splits_of_roboflow_keep_their_validation_images(copied, tmp_path):
    root = copied('roboflow')
    (root / 'valid').mkdir()
    content = read_json(root / 'train/_annotations.coco.json')
    moved = content['images'][4:]
    for image in moved:
        (root / 'train' / image['file_name']).rename(root / 'valid' / image['file_name'])
    for split, images in (('train', content['images'][:4]), ('valid', moved)):
        ids = {image['id'] for image in images}
        own = [entry for entry in content['annotations'] if entry['image_id'] in ids]
        (root / split / '_annotations.coco.json').write_text(json.dumps(dict(content, images=images, annotations=own)))
    prepare(root, tmp_path / 'cells', workers=1)
    statistics = read_json(tmp_path / 'cells/statistics.json')
    assert statistics['images'] == dict(train=4, val=2, test=1) and statistics['classes'] == list(CLASSES)


# what is refused


def array(path, change):
    return lambda root: np.save(root / path, change(np.load(root / path)))


def text(path, content):
    return lambda root: (root / path).write_bytes(content)


def mat(change):
    def damage(root):
        path = root / 'Lizard_Labels/Labels/p1_1.mat'
        content = {key: value for key, value in scipy.io.loadmat(path).items() if key[0] != '_'}
        change(content)
        scipy.io.savemat(path, content)

    return damage


def table(path, *rows):
    return lambda root: write_table(root / path, *rows)


IMAGES, MASKS = 'Fold 1/images/fold1/images.npy', 'Fold 1/masks/fold1/masks.npy'
REFUSED = {
    'PanNuke cut off': ('pannuke', lambda root: shutil.copy(__file__, root / MASKS), 'masks.npy: is not a .npy file'),
    'PanNuke shorter than its header says': (
        'pannuke',
        lambda root: (root / IMAGES).write_bytes((root / IMAGES).read_bytes()[:-9]),
        'images.npy: is not a .npy file of numbers, or is cut off',
    ),
    'PanNuke of objects': (
        'pannuke',
        lambda root: np.save(root / MASKS, np.array([dict(a=1)]), allow_pickle=True),
        'masks.npy: is not a .npy file',
    ),
    'PanNuke of fewer masks': (
        'pannuke',
        array(MASKS, lambda masks: masks[1:]),
        r'\(2, 64, 96\), but images\.npy has \(3, 64, 96\)',
    ),
    'PanNuke of five channels': ('pannuke', array(MASKS, lambda masks: masks[..., :5]), r'width, 6\) is needed'),
    'PanNuke of channels first': ('pannuke', array(MASKS, lambda masks: masks.transpose(0, 3, 1, 2)), 'has the shape'),
    'PanNuke with the background first': (
        'pannuke',
        array(MASKS, lambda masks: np.roll(masks, 5, axis=3)),
        'image 0: the last channel holds 4 values, but it is the background',
    ),
    'PanNuke of 0 to 1': ('pannuke', array(IMAGES, lambda images: images / 255), 'image 0 holds 0.* whole numbers'),
    'PanNuke of 16 bits': ('pannuke', array(IMAGES, lambda images: images * 257), 'whole numbers from 0 to 255'),
    'PanNuke with nan': ('pannuke', array(IMAGES, lambda images: images * np.nan), 'image 0 holds nan'),
    'PanNuke of ids with fractions': ('pannuke', array(MASKS, lambda masks: masks / 3), 'whole numbers, found'),
    'PanNuke without its masks': ('pannuke', lambda root: (root / MASKS).unlink(), 'images.npy: no masks.npy for it'),
    'PanNuke without its images': ('pannuke', lambda root: (root / IMAGES).unlink(), 'masks.npy: no images.npy for it'),
    'PanNuke, a fold twice': (
        'pannuke',
        lambda root: shutil.copytree(root / 'Fold 1', root / 'fold_1'),
        'is of the same fold',
    ),
    'CoNIC without labels': ('conic', lambda root: (root / 'train/labels.npy').unlink(), 'no labels.npy beside it'),
    'CoNIC without images': ('conic', lambda root: (root / 'train/images.npy').unlink(), 'no images.npy in it'),
    'CoNIC of more names': (
        'conic',
        table('train/patch_info.csv', ('patch_info',), *[(f'a-{index}',) for index in range(7)]),
        'names 7 patches, but images.npy has 6',
    ),
    'CoNIC with names that lead elsewhere': (
        'conic',
        table('train/patch_info.csv', ('patch_info',), *[('../../a',)] * 6),
        'patch 0: .* cannot be a file name',
    ),
    'CoNIC with another table': ('conic', table('train/patch_info.csv', ('name',)), 'has no column patch_info'),
    'CoNIC with a table of bytes': ('conic', text('train/patch_info.csv', b'\xff\xfe\0'), 'is not a CSV file'),
    'CoNIC of cells without a class': (
        'conic',
        array('train/labels.npy', lambda labels: labels * np.array([1, 0], np.uint16)),
        'image 0: 6 of 6 instances have no class',
    ),
    'CoNIC of more classes': (
        'conic',
        array('train/labels.npy', lambda labels: labels * np.array([1, 9], np.uint16)),
        'type_map holds 27, but 6 types are named',
    ),
    'Lizard with class but no id': ('lizard', mat(lambda content: content.pop('id')), 'id is missing'),
    'Lizard of fewer classes': (
        'lizard',
        mat(lambda content: content.update({'class': content['class'][1:]})),
        '6 in class, but 7 in id',
    ),
    'Lizard with an id twice': (
        'lizard',
        mat(lambda content: content.update(id=np.minimum(content['id'], 6))),
        'instance 6 of inst_map is 2 times in id',
    ),
    'Lizard with an id that is not listed': (
        'lizard',
        mat(lambda content: content.update(id=content['id'] + 1)),
        'instance 1 of inst_map is 0 times in id',
    ),
    'Lizard of ids of text': (
        'lizard',
        mat(lambda content: content.update(id=np.array(list('abcdefg'), object))),
        'id must hold numbers',
    ),
    'Lizard with another split': (
        'lizard',
        table('Lizard_Labels/info.csv', ('Filename', 'Source', 'Split'), ('p1_1', 'x', '4')),
        "split '4' of p1_1; 1, 2 or 3",
    ),
    'Lizard with an image that is not listed': (
        'lizard',
        table('Lizard_Labels/info.csv', ('Filename', 'Source', 'Split'), ('p1_2', 'x', '1')),
        'split None of p1_1',
    ),
    'Lizard with a row cut off': (
        'lizard',
        text('Lizard_Labels/info.csv', b'Filename,Source,Split\np1_1,x'),
        'row 2 has 2 fields, the header 3',
    ),
    'Lizard without an image': (
        'lizard',
        lambda root: (root / 'Lizard_Images1/p1_1.png').unlink(),
        'p1_1.mat: no image p1_1',
    ),
    'MoNuSeg of another kind of XML': (
        'monuseg',
        text('MoNuSeg 2018 Training Data/Annotations/p1_1.xml', b'<annotation><object/></annotation>'),
        'p1_1.xml: its root is <annotation>',
    ),
    'MoNuSeg with a hole': (
        'monuseg',
        lambda root: [
            path.write_text(path.read_text().replace('NegativeROA="0"', 'NegativeROA="1"', 1))
            for path in root.glob('*/Annotations/p1_1.xml')
        ],
        'region 1: is a hole',
    ),
    'MoNuSeg without an image': (
        'monuseg',
        lambda root: (root / 'MoNuSeg 2018 Training Data/Tissue Images/p1_1.tif').unlink(),
        'p1_1.xml: no image p1_1',
    ),
    'NuInsSeg of another size': (
        'nuinsseg',
        lambda root: tifffile.imwrite(
            root / 'train/human organ 0/label masks modify/p1_1.tif', np.ones((HEIGHT, WIDTH + 1), 'u2')
        ),
        'p1_1.tif: 97x64 px',
    ),
    'NuInsSeg without a map': (
        'nuinsseg',
        lambda root: (root / 'train/human organ 0/label masks modify/p1_1.tif').unlink(),
        'p1_1.png: no labels',
    ),
    'DSB 2018 with a map of ids': (
        'dsb2018',
        lambda root: save_png(root / f'stage1_train/p1_1/masks/{0:032x}.png', id_map(SCENES[0]).astype(np.uint8)),
        'has several values; a mask of DSB 2018 is one nucleus',
    ),
    'DSB 2018 with two images': (
        'dsb2018',
        lambda root: save_png(root / 'stage1_train/p1_1/images/x.png', SCENES[0].image),
        'p1_1: 2 images in images/',
    ),
    'DSB 2018 without masks': (
        'dsb2018',
        lambda root: shutil.rmtree(root / 'stage1_train/p1_1/masks'),
        'p1_1: no masks/ in it',
    ),
    'TNBC without a mask': ('tnbc', lambda root: (root / 'train/GT_01/01_1.png').unlink(), '01_1.png: no labels'),
    'TNBC with a mask of colours': (
        'tnbc',
        lambda root: save_png(root / 'train/GT_01/01_1.png', SCENES[0].image),
        'a mask has one channel',
    ),
    'Roboflow without an image': (
        'roboflow',
        lambda root: next(root.glob('train/*.png')).unlink(),
        'no image .* beside it',
    ),
    'Roboflow, two files of a split': (
        'roboflow',
        lambda root: shutil.copy(root / 'train/_annotations.coco.json', root / 'train/b.json'),
        'beside it is train too',
    ),
}


@pytest.mark.parametrize('kind', REFUSED)
def test_it_is_refused_in_one_line(copied, kind):
    name, damage, expected = REFUSED[kind]
    root = copied(name)
    damage(root)
    with pytest.raises(UserError, match=expected) as caught:
        for sample in FORMATS[FORMAT_OF.get(name, name)].find_samples(root, EVERY[name][1])[0]:
            sample.read_instances(sample.read_image()[0].shape[:2])
    assert '\n' not in str(caught.value) and str(root) in str(caught.value)
