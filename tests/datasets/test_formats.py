"""Every format, written by other code, arrives pixel by pixel, can be trained on, and scores 1.0 against itself."""

import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, build_dataset, read_json
from mmdet.registry import MODELS
from mmdet.structures.mask import encode_mask_results
from mmengine.config import Config
from pycocotools import mask as mask_utils
from written_datasets import EVERY, FORMAT_OF
from written_formats import CLASSES, HEIGHT, WIDTH, WRITTEN, make_scenes, to_mask

from cellseg_mm.datasets import FORMATS, prepare
from cellseg_mm.datasets.formats import find_format
from cellseg_mm.evaluation import evaluate
from cellseg_mm.export import export_cells
from cellseg_mm.images import ArraySource
from cellseg_mm.structures import Cells, read_layers
from cellseg_mm.utils import UserError

WITH_IGNORED = ('monusac', 'coco', 'geojson', 'asap', 'nuinsseg')


@pytest.fixture(scope='module')
def scenes():
    return make_scenes()


@pytest.fixture(scope='module', params=EVERY)
def converted(request, scenes, tmp_path_factory):
    """A set that was written in one of the formats, found out to be of it, and prepared."""
    root = tmp_path_factory.mktemp(request.param)
    write, classes, expected_classes = EVERY[request.param]
    names = write(root / 'source', scenes) or [scene.name for scene in scenes]
    assert find_format(root / 'source') is FORMATS[FORMAT_OF.get(request.param, request.param)]
    statistics = prepare(root / 'source', root / 'cells', classes, val_fraction=0.3, workers=1)
    contents = {
        split: read_json(root / 'cells' / 'annotations' / f'{split}.json') for split in ('train', 'val', 'test')
    }
    return SimpleNamespace(
        format=request.param,
        root=root / 'cells',
        names=names,
        classes=expected_classes,
        statistics=statistics,
        contents=contents,
    )


@pytest.fixture(scope='module')
def model():
    """A small detector."""
    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / 'configs/demo/maskrcnn_r18_fpn.py').model
    cfg.backbone.init_cfg = None
    return MODELS.build(cfg).train()


def test_every_pixel_arrives(converted, scenes):
    assert converted.statistics['classes'] == list(converted.classes)
    found = {}
    for split, content in converted.contents.items():
        names = {entry['id']: entry['name'] for entry in content['categories']}
        for image in content['images']:
            assert (split == 'test') == (image['file_name'] == f'{converted.names[-1]}.png')
            layers = read_layers(converted.root / 'instances' / image['instance_map'])
            cells = set()
            for entry in content['annotations']:
                if entry['image_id'] == image['id']:
                    mask = mask_utils.decode(entry['segmentation']).astype(bool)
                    assert np.array_equal((layers == entry['instance_id']).any(axis=0), mask)
                    cells.add((names[entry['category_id']], entry['iscrowd'], mask.tobytes()))
            found[image['file_name'][:-4]] = cells
    for scene, stem in zip(scenes, converted.names, strict=True):
        cells = {
            (name if name in converted.classes else 'cell', 0, to_mask(points).tobytes())
            for name, points in scene.cells
        }
        if converted.format in WITH_IGNORED:
            ignored = ['lymphocyte'] if converted.format == 'coco' else converted.classes  # a crowd is of one class
            cells |= {(name, 1, to_mask(scene.ignored).tobytes()) for name in ignored}
        assert found[stem] == cells
        rgb = cv2.imread(str(converted.root / 'images' / f'{stem}.png'))[..., ::-1]
        assert np.array_equal(rgb, scene.image)
    ignored = sum(converted.statistics['ignored'].values())
    assert ignored == (len(scenes) if converted.format in WITH_IGNORED else 0)


def test_it_scores_one_against_itself(converted):
    """Predictions where regions are ignored change nothing."""
    ground_truth = converted.contents['train']
    results = [
        dict({key: entry[key] for key in ('image_id', 'category_id', 'bbox', 'segmentation')}, score=0.9)
        for entry in ground_truth['annotations']
    ]
    figures = evaluate(ground_truth, results)
    for name in ('segm_mAP_max1000', 'bbox_mAP_max1000', 'PQ', 'mPQ', 'AJI', 'Dice', 'F1_detection'):
        assert figures[name] == pytest.approx(1), name
    cell = next(index for index, entry in enumerate(ground_truth['annotations']) if not entry['iscrowd'])
    assert evaluate(ground_truth, results[:cell] + results[cell + 1 :])['PQ'] < 1


def test_it_trains_a_step(converted, model):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadCellAnnotations'), dict(type='PackDetInputs')]
    dataset = build_dataset(converted.root, pipeline)
    samples = [dataset[index] for index in range(2)]
    assert all(len(sample['data_samples'].gt_instances) == 6 for sample in samples)
    batch = {key: [sample[key] for sample in samples] for key in samples[0]}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    loss, parts = model.parse_losses(model(**model.data_preprocessor(batch, training=True), mode='loss'))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    assert torch.isfinite(loss) and parts['loss_mask'] > 0


def read_source(root, classes):
    """Split, layers and labels of each image, its layout found out."""
    samples, _ = find_format(root).find_samples(root, classes)
    read = [(sample, sample.read_instances((HEIGHT, WIDTH))) for sample in samples]
    return {sample.name: (sample.split, cells.layers.tobytes(), cells.labels.tolist()) for sample, cells in read}


@pytest.mark.parametrize('name', EVERY)
def test_neither_case_nor_hidden_files_matter(scenes, tmp_path, name):
    """Names in upper case, other words for the splits, and what macOS and editors leave beside files."""
    write, classes, _ = EVERY[name]
    write(tmp_path, scenes)
    expected = read_source(tmp_path, classes)
    assert len(expected) == len(scenes) and all(any(labels) for *_, labels in expected.values())
    for path in sorted(tmp_path.rglob('*'), reverse=True):  # what is in a folder before the folder
        words = dict(train='Training', test='TESTING')
        if FORMAT_OF.get(name, name) != 'coco':
            path = path.rename(path.with_name(words.get(path.name.lower(), path.name.upper().replace('P', 'p'))))
        elif path.suffix == '.json':  # which names the other files
            path = path.rename(path.with_suffix('.JSON'))
        path.with_name(f'._{path.name}').write_bytes(b'\0\5\x16\7')
    (tmp_path / '.idea').mkdir()
    (tmp_path / '.idea/modules.xml').write_text('<project/>')
    assert read_source(tmp_path, classes) == expected


def test_no_mask_of_the_task_is_passed_over(scenes, tmp_path):
    write, classes, _ = WRITTEN['task']
    write(tmp_path, scenes)
    folder = tmp_path / 'train/p1_1'
    (folder / 'class_names.txt').write_text('epithelial')
    assert read_source(tmp_path, classes)
    for new, reason in [
        ('class_2.tif', 'masks are named classN'),
        ('class1.BMP', 'named'),
        ('CLASS01.tif', 'same class'),
    ]:
        shutil.copy(folder / 'class1.tif', folder / new)
        with pytest.raises(UserError, match=f'{new}.*{reason}'):
            read_source(tmp_path, classes)
        (folder / new).unlink()


@pytest.mark.parametrize('has_splits', [True, False])
def test_images_and_masks_in_folders_of_their_own(scenes, tmp_path, has_splits):
    """StarDist's layout. Images of test may come without masks there, too; folders of both layouts are both read."""
    WRITTEN['cellpose'][0](tmp_path, scenes)
    if not has_splits:
        shutil.rmtree(tmp_path / 'test')
        for path in [*tmp_path.glob('train/*')]:
            path.rename(tmp_path / path.name)
        (tmp_path / 'train').rmdir()
    expected = read_source(tmp_path, None)
    for path in [*tmp_path.rglob('p?_?.tif')]:
        mask = path.with_name(f'{path.stem}_masks.tif')
        for old, new in [(path, path.parent / 'images' / path.name), (mask, path.parent / 'masks' / path.name)]:
            new.parent.mkdir(exist_ok=True)
            old.rename(new)
    assert read_source(tmp_path, None) == expected
    if has_splits:
        shutil.rmtree(tmp_path / 'test/masks')
        samples, _ = find_format(tmp_path).find_samples(tmp_path, None)
        assert [sample.name for sample in samples if sample.source is None] == ['p4_1']
    shutil.copy(next(tmp_path.rglob('p1_1.tif')), tmp_path / ('train' if has_splits else '') / 'x.tif')
    with pytest.raises(UserError, match=r'x\.tif: no labels'):
        find_format(tmp_path).find_samples(tmp_path, None)


@pytest.mark.parametrize('name, groups', [('monusac', None), ('geojson', 'patient'), ('geojson', '^p.')])
def test_patients_stay_together(scenes, tmp_path, name, groups):
    """MoNuSAC's always, others on request; of three patients with two images each one goes to validation."""
    write, classes, _ = WRITTEN[name]
    write(tmp_path / 'source', scenes)
    for seed in range(3):
        prepare(tmp_path / 'source', tmp_path / 'cells', classes, 0.3, seed, workers=1, groups=groups)
        images = [read_json(tmp_path / f'cells/annotations/{split}.json')['images'] for split in ('train', 'val')]
        train, val = ({image['file_name'][:2] for image in entries} for entries in images)
        assert len(train) == 2 and len(val) == 1 and not train & val
        assert read_json(tmp_path / 'cells/statistics.json')['groups'] == dict(train=2, val=1, test=1)


def test_our_own_export_comes_back_pixel_by_pixel(tmp_path):
    """GeoJSON on pixel edges: random masks have holes, islands in them, and pixels that touch by corners alone."""
    rng = np.random.default_rng(0)
    masks = rng.random((6, 40, 50)) < np.array([0.02, 0.25, 0.6, 0.7, 0.98, 0.62])[:, None, None]
    masks[5, :, :25] = False
    codes = encode_mask_results(masks)
    cells = Cells.from_codes(codes, [0, 1, 0, 1, 0, 1], np.ones(6), 40, 50)
    image = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    for name in ('a', 'b'):
        cv2.imwrite(str(tmp_path / f'{name}.png'), image)
        export_cells([cells], ArraySource(image), tmp_path, name, ['geojson'], CLASSES)
    samples, classes = FORMATS['geojson'].find_samples(tmp_path, None)
    instances = samples[0].read_instances((40, 50))
    assert classes == CLASSES and instances.labels.tolist() == [1, 2, 1, 2, 1, 2]
    assert len(instances.layers) > 1  # they overlap
    for number, mask in enumerate(masks, start=1):
        assert np.array_equal((instances.layers == number).any(axis=0), mask)


def test_a_prepared_set_is_a_coco_source(prepared, tmp_path):
    """Its validation split is kept, and so is every cell."""
    prepare(prepared, tmp_path / 'again', workers=1)
    for split in ('train', 'val', 'test'):
        old, new = (read_json(root / f'annotations/{split}.json') for root in (prepared, tmp_path / 'again'))
        assert [image['file_name'] for image in old['images']] == [image['file_name'] for image in new['images']]
        keys = ('category_id', 'bbox', 'area', 'segmentation', 'instance_id')
        cells = [[[entry[key] for key in keys] for entry in content['annotations']] for content in (old, new)]
        assert cells[0] == cells[1]
