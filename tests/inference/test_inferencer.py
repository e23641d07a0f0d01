"""From images to cells, with a small detector of random weights."""

import re

import numpy as np
import pytest
import tifffile
import torch
from mmdet.structures.mask import encode_mask_results
from mmengine.structures import InstanceData
from PIL import Image
from pycocotools import mask as mask_utils
from tiny_detector import draw, predict, random_detector, tiny_config

from cellseg_mm import CellInferencer, deploy
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.engine.detector import checkpoint_config
from cellseg_mm.images import ArraySource, ResampledSource
from cellseg_mm.inference import find_channel_order, tiled_inference
from cellseg_mm.inference.inferencer import _to_cells
from cellseg_mm.structures import Cells
from cellseg_mm.utils import UserError


@pytest.fixture(scope='module')
def detector(tiny_checkpoint) -> CellInferencer:
    return CellInferencer(tiny_checkpoint, channel_order='rgb')


def same(cells: Cells, others: Cells) -> bool:
    """But for float32 sums in another order, as in a batch, by which a pixel at the threshold may differ."""
    if cells.labels.tolist() != others.labels.tolist() or not np.allclose(cells.scores, others.scores, atol=1e-4):
        return False
    masks, other_masks = mask_utils.decode(cells.codes()), mask_utils.decode(others.codes())
    return (masks != other_masks).sum(axis=(0, 1)).max(initial=0) <= 2


@pytest.fixture
def enlarging(tiny_checkpoint, tmp_path):
    """A checkpoint that is tested with a Resize by a factor of its own, while ``test_pipeline`` stays as it was."""
    content, path = read_checkpoint(str(tiny_checkpoint)), tmp_path / 'enlarging.pth'
    cfg = checkpoint_config(content, str(tiny_checkpoint))
    resize = dict(type='Resize', scale_factor=1.5, keep_ratio=True)
    steps = [resize if step.type == 'Resize' else step for step in cfg.test_pipeline]
    cfg.test_dataloader.dataset.pipeline = steps
    content['meta']['cfg'] = cfg.pretty_text
    torch.save(content, path)
    return path


@pytest.mark.parametrize('checkpoint', ['tiny_checkpoint', 'enlarging'])
def test_the_cells_are_those_of_mmdets_test_path_each_once(checkpoint, request, tmp_path):
    image, checkpoint = draw(1, 128, 140), request.getfixturevalue(checkpoint)
    detector = CellInferencer(checkpoint, channel_order='rgb')
    cells = detector(image)
    content = read_checkpoint(str(checkpoint))
    cfg = checkpoint_config(content, str(checkpoint))
    model = random_detector(cfg)
    model.load_state_dict(content['state_dict'])
    found = predict(cfg, model, image, tmp_path / 'image.png')
    masks = mask_utils.decode(found.masks).astype(bool)
    scores, labels = found.scores.numpy(), found.labels.numpy()
    free, kept = np.ones((128, 140), bool), []
    for index in np.argsort(-scores, kind='stable'):
        mask = masks[..., index]
        if scores[index] >= 0.25 and mask.any() and (mask & free).sum() >= 0.5 * mask.sum():
            kept.append(index)
            free &= ~mask
    assert 10 < len(kept) < (scores >= 0.25).sum()  # doubles were there
    kept = sorted(kept, key=lambda index: -scores[index])
    order = np.argsort(-cells.scores, kind='stable')
    assert np.allclose(cells.scores[order], scores[kept]) and cells.labels[order].tolist() == labels[kept].tolist()
    assert np.array_equal(mask_utils.decode(cells.codes())[..., order], masks[..., kept])
    assert (cells.height, cells.width) == image.shape[:2] and detector.classes == ('a', 'b', 'c')


def test_images_of_pillow_and_tuples(detector):
    image = draw(1, 128, 128)
    expected = detector(image)
    for given in (Image.fromarray(image), Image.fromarray(np.dstack([image, image[..., :1]]))):
        assert same(detector(given), expected)
    assert [same(cells, expected) for cells in detector((image, Image.fromarray(image)))] == [True, True]


@pytest.mark.parametrize(
    'given, message',
    [
        (None, 'an image of type NoneType: a path, an '),
        (b'abc', 'an image of type bytes'),
        (5, 'an image of type int'),
        (np.zeros((5, 5, 3), np.uint8), '5x5 px; at least 8'),
        (np.zeros((20, 20), np.uint8), r'not \(20, 20\) uint8'),
        (np.zeros((20, 20, 3)), r'not \(20, 20, 3\) float64'),
        (Image.fromarray(np.zeros((20, 20), np.uint16)), 'an image of mode I;16: 8 bits'),
    ],
)
def test_what_is_not_an_image_is_named(detector, given, message):
    with pytest.raises(UserError, match=message):
        detector(given)


def test_files_arrays_sources_and_lists_of_them_give_the_same_cells(detector, tmp_path):
    images = [draw(1, 128, 128), draw(2, 140, 130), draw(3, 100, 400)]  # the last goes through in tiles
    single = [detector(image) for image in images]
    assert len({len(cells) for cells in single}) > 1 and min(len(cells) for cells in single) > 0
    tifffile.imwrite(tmp_path / 'x.tif', images[0] * np.uint16(257), photometric='rgb')
    mixed = [tmp_path / 'x.tif', images[1], ArraySource(images[2])]
    for found in (detector(images), detector(mixed), [detector(entry) for entry in mixed]):
        assert all(map(same, found, single))


def test_an_image_is_one_process_own_matter_whatever_a_launcher_started(detector, monkeypatch):
    image = draw(1, 128, 400)
    cells = detector(image)
    monkeypatch.setattr(tiled_inference, 'get_dist_info', lambda: (1, 2))
    monkeypatch.setattr(tiled_inference, 'barrier', None)
    assert len(cells) and same(detector(image), cells)


def stained() -> tuple:
    """(128, 140, 3) uint8 RGB with one bluer cell, and where it is."""
    mask = np.zeros((128, 140), bool)
    mask[20:40, 20:40] = True
    return np.where(mask[..., None], (90, 60, 160), (230, 150, 200)).astype(np.uint8), mask


def as_cells(masks: np.ndarray, scores: list) -> Cells:
    """Of (N, H, W) bool."""
    codes = encode_mask_results(masks)
    return Cells.from_codes(codes, [0] * len(masks), scores, *masks.shape[1:])


def test_a_file_with_red_and_blue_exchanged_is_put_right_where_training_files_were_so(
    tiny_checkpoint, tmp_path, monkeypatch
):
    image, mask = stained()
    for name, stored in (('right', image), ('swapped', image[..., ::-1])):
        tifffile.imwrite(tmp_path / f'{name}.tif', stored, photometric='rgb')
    looked_at = []

    def detect(self, images: list, transforms: list) -> list:
        looked_at.extend(images)
        return [as_cells(np.stack([mask, ~mask]), [0.9, 0.1]) for _ in images]

    def pixels(detector: CellInferencer, name: str) -> tuple:
        source = detector.open(tmp_path / f'{name}.tif')
        return source.read(0, 0, source.width, source.height), source.note

    monkeypatch.setattr(CellInferencer, '_detect', detect)
    # what validation's threshold leaves out, here all but the nucleus, does not tell the stain
    detector = CellInferencer(tiny_checkpoint, score_thr=0.05)
    assert (detector.training_order, detector.validated_thr) == ('bgr', 0.25)
    for name, said in (('right', ''), ('swapped', 'red and blue exchanged in the file, corrected')):
        found, note = pixels(detector, name)
        assert np.array_equal(found, image) and note == said
    looked_at.clear()
    detector(str(tmp_path / 'swapped.tif'))
    assert np.array_equal(looked_at[-1], image)

    looked_at.clear()
    assert np.array_equal(pixels(CellInferencer(tiny_checkpoint, channel_order='bgr'), 'swapped')[0], image)
    detector.training_order = 'rgb'
    assert np.array_equal(pixels(detector, 'swapped')[0], image[..., ::-1])
    assert not looked_at  # what is known costs nothing


def test_images_that_would_be_shown_at_another_size_than_in_training_go_through_in_tiles(detector, tiny_checkpoint):
    def needs_tiles(height: int, width: int) -> bool:
        return detector.needs_tiles(ArraySource(np.zeros((height, width, 3), np.uint8)))

    # training images came in at 1.5 to 2 times their size, and augmentation zooms by 1.15; the input is 512 x 256 px
    assert [needs_tiles(side, side) for side in (111, 112, 128, 196, 197)] == [True, False, False, False, True]
    assert [needs_tiles(60, width) for width in (222, 223, 392, 393)] == [True, False, False, True]
    image = draw(1, 128, 128)
    # in tiles, of which it fills one, it is shown at twice its size, as when it is fitted
    assert same(CellInferencer(tiny_checkpoint, scale=2)(image), detector(image))
    wide = np.tile(image, (1, 4, 1))
    cells = detector(wide)
    assert cells.width == 512 and len(cells) > 2 * len(detector(image)) and cells.boxes()[:, 2].max() > 400


@pytest.fixture(scope='module')
def sized(tiny_checkpoint, tmp_path_factory) -> CellInferencer:
    """The detector, of training images with 0.5 um a px."""
    content, path = read_checkpoint(str(tiny_checkpoint)), tmp_path_factory.mktemp('sized') / 'sized.pth'
    content['meta']['cfg'] += '\npixel_size = 0.5\n'
    torch.save(content, path)
    return CellInferencer(path, channel_order='rgb')


@pytest.mark.parametrize('size', [(128, 140), (150, 420)], ids=['fitted', 'tiles'])
def test_an_image_of_another_pixel_size_is_shown_at_that_of_training(sized, size, tmp_path):
    """Where each px of an image becomes four, or four become one, the model is shown the same image."""
    image = draw(1, *size)
    expected, source = sized(image), ArraySource(image, 0.5)
    fine = ArraySource(np.repeat(np.repeat(image, 2, axis=0), 2, axis=1), 0.25)
    assert len(expected) > 5 and same(sized(source), expected)
    assert [sized.needs_tiles(one) for one in (source, fine)] == [size[1] > 200] * 2
    found = sized(fine)
    assert (found.height, found.width) == (2 * size[0], 2 * size[1])
    assert same(found.resize(*size), expected) and same(found, expected.resize(found.height, found.width))
    assert (sized.size_factor(source), sized.size_factor(fine)) == (1, 0.5)
    assert sized.describe_size(source) == ''
    assert sized.describe_size(fine) == "shown to the model at the training's 0.5 um a px, 0.50 times its size"
    tifffile.imwrite(
        tmp_path / 'fine.tif',
        fine.read(0, 0, fine.width, fine.height),
        photometric='rgb',
        resolution=(4e4, 4e4),
        resolutionunit='CENTIMETER',
    )
    assert same(sized(tmp_path / 'fine.tif'), found)


def test_a_coarse_image_is_enlarged_and_its_cells_come_back_in_its_own_px(sized):
    image = draw(1, 256, 280)
    coarse = ArraySource(np.ascontiguousarray(image[::2, ::2]), 1.0)
    cells, shown = sized(coarse), sized(ResampledSource(coarse, 2))
    assert (cells.height, cells.width, sized.size_factor(coarse)) == (128, 140, 2)
    assert len(cells) > 5 and same(cells, shown.resize(128, 140))


def test_the_pixel_size_counts_only_where_both_are_known_and_differ(sized, detector, tiny_checkpoint, tmp_path):
    blank = np.full((64, 64, 3), 200, np.uint8)
    assert [sized.size_factor(ArraySource(blank, size)) for size in (None, 0.5, 0.51, 0.48, 1.0, 4.0, 0.0625)] == [
        *[1] * 4,
        *[2, 8, 0.125],
    ]
    assert detector.training_pixel_size is None and detector.size_factor(ArraySource(blank, 4.0)) == 1
    assert sized.training_pixel_size == 0.5
    for size in (4.1, 0.06):
        with pytest.raises(UserError, match=rf'x: {size} um a px, but the training images had 0.5; .* --pixel-size'):
            sized.size_factor(ArraySource(blank, size, name='x'))
    by_scale = CellInferencer(sized.origin['checkpoint'][0], scale=3)
    assert by_scale.size_factor(ArraySource(blank, 4.1)) == 1
    given = CellInferencer(sized.origin['checkpoint'][0], pixel_size=1.0)
    assert given.size_factor(ArraySource(blank, 0.5)) == given.size_factor(ArraySource(blank)) == 2


def test_a_resize_by_a_factor_sends_large_images_through_in_tiles(enlarging):
    detector = CellInferencer(enlarging)
    blank = np.zeros((2731, 60, 3), np.uint8)
    assert [detector.needs_tiles(ArraySource(blank[:height])) for height in (60, 2730, 2731)] == [False, False, True]
    assert detector.tiling() == dict(tile_size=512, overlap=128)


def test_tiles_fill_the_models_input_by_default(detector, tiny_checkpoint):
    assert detector.tiling() == dict(tile_size=128, overlap=42)
    assert detector.tiling(200) == dict(tile_size=200, overlap=66) and detector.tiling(900)['overlap'] == 128
    assert CellInferencer(tiny_checkpoint, scale=0.5).tiling() == dict(tile_size=512, overlap=128)
    for wrong in ((200, 67), (200, 0), (10, None), (0, None)):
        with pytest.raises(UserError, match='the overlap must be 32 px to a third of the tile'):
            detector.tiling(*wrong)


def test_the_threshold_is_validations_unless_given_and_counts_itself(detector, tiny_checkpoint):
    image = draw(1, 128, 128)
    everything = detector(image)
    assert detector.score_thr == 0.25 and detector.score_reason == 'chosen by the validation of epoch 2'
    threshold = float(np.sort(everything.scores)[len(everything) // 2])
    fewer = CellInferencer(tiny_checkpoint, score_thr=threshold)(image)
    assert same(fewer, everything.select(everything.scores >= threshold)) and fewer.scores.min() == np.float32(
        threshold
    )


def test_a_safetensors_file_is_the_checkpoint_it_was_made_of(detector, tiny_checkpoint, tmp_path):
    content = read_checkpoint(str(tiny_checkpoint))
    notes = deploy.metadata(checkpoint_config(content, ''), content)
    path = tmp_path / 'x.safetensors'
    path.write_bytes(deploy.to_safetensors(content['state_dict'], notes))
    other, image = CellInferencer(path), draw(1, 110, 128)
    assert same(other(image), detector(image))
    assert (other.score_thr, other.scale, other.training_order) == (0.25, 2, 'bgr')


def test_another_config_takes_the_place_of_the_checkpoints(tiny_checkpoint, tmp_path):
    path = tmp_path / 'few.py'
    path.write_text(tiny_config('maskrcnn_r18_fpn_cbam', rcnn=dict(max_per_img=3)).pretty_text)
    few = CellInferencer(tiny_checkpoint, path)
    assert few.max_cells == 3 and 0 < len(few(draw(1, 128, 128))) <= 3


def test_views_are_merged_with_tta(detector, tiny_checkpoint):
    image = draw(1, 128, 128)
    merged = CellInferencer(tiny_checkpoint, score_thr=0.01, tta=True)(image)
    assert len(merged) and merged.scores.max() <= 1 and merged.codes() != detector(image).codes()


def test_the_stain_of_the_cells_shows_the_channel_order_of_files(tmp_path):
    image, mask = stained()
    tifffile.imwrite(tmp_path / 'right.tif', image, photometric='rgb')
    tifffile.imwrite(tmp_path / 'swapped.tif', image[..., ::-1], photometric='rgb')
    tifffile.imwrite(tmp_path / 'damaged.tif', image, photometric='rgb', compression='zlib')
    with tifffile.TiffFile(tmp_path / 'damaged.tif') as file:
        offset = file.pages[0].dataoffsets[0]
    content = bytearray((tmp_path / 'damaged.tif').read_bytes())
    content[offset : offset + 20] = bytes(20)
    (tmp_path / 'damaged.tif').write_bytes(content)

    def find(image: np.ndarray) -> Cells:
        return as_cells(mask[None], [0.9])

    find.validated_thr = 0.5
    for name, order in (('right', 'rgb'), ('swapped', 'bgr')):
        found, reason = find_channel_order(find, [tmp_path / f'{name}.tif', tmp_path / 'damaged.tif'])
        assert found == order and reason.endswith('of 1')
    assert find_channel_order(find, [tmp_path / 'damaged.tif'])[0] == 'rgb'


def test_a_stock_head_gives_the_same_cells_by_bitmaps(tiny_checkpoint, tmp_path):
    """Alone and by several views."""
    path, content = tmp_path / 'stock.pth', read_checkpoint(str(tiny_checkpoint))
    content['meta']['cfg'] = content['meta']['cfg'].replace("type='RLEMaskHead'", "type='FCNMaskHead'")
    torch.save(content, path)
    for tta in (False, True):
        detectors = [CellInferencer(each, score_thr=0.1, tta=tta) for each in (tiny_checkpoint, path)]
        cells, others = (detector(draw(5, 64, 96)) for detector in detectors)
        assert len(cells) and cells.codes() == others.codes()
        assert cells.scores.tolist() == others.scores.tolist()


def test_a_detector_that_keeps_any_score_is_cut_at_the_threshold():
    masks = torch.eye(4, dtype=torch.bool)[:, None]
    found = InstanceData(masks=masks, labels=torch.arange(4), scores=torch.tensor([0.1, 0.3, 0.2999999, 0.9]))
    assert _to_cells(found, 1, 4, 0.3).labels.tolist() == [1, 3]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(score_thr=1.5), 'invalid score threshold 1.5: scores go from 0 to 1'),
        (dict(channel_order='brg'), "invalid channel order 'brg': choose from auto, rgb, bgr"),
        (dict(scale=0), 'invalid scale 0: it must be from 0.01 to 100'),
        (dict(pixel_size=72), 'invalid pixel size 72: it must be from 0.02 to 20 um'),
        (dict(device='cuda:99'), 'device cuda:99: cannot be used'),
        (dict(device='nonsense'), 'device nonsense: cannot be used'),
        (dict(config='absent.py'), 'absent.py: no such config file'),
    ],
)
def test_mistakes_give_one_line(tiny_checkpoint, options, message):
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        CellInferencer(tiny_checkpoint, **options)
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (('max_per_img=', 'max_cells='), 'model.test_cfg of MaskRCNN has no max_per_img'),
        (("type='Resize'", "type='Pad'"), 'not a config of this project'),
        (("type='CBAMResNet'", "type='Unknown'"), 'its model cannot be built'),
        (('base_channels=8', 'base_channels=4'), 'is not of the model in its own config'),
        (('\nmodel', '\nmodels'), 'carries no config of tools/train.py'),
    ],
)
def test_a_checkpoint_that_is_none_of_ours_is_named(tiny_checkpoint, tmp_path, change, message):
    path, content = tmp_path / 'x.pth', read_checkpoint(str(tiny_checkpoint))
    assert change[0] in content['meta']['cfg']
    content['meta']['cfg'] = content['meta']['cfg'].replace(*change)
    torch.save(content, path)
    with pytest.raises(UserError, match=rf'x\.pth: .*{message}'):
        CellInferencer(path)
