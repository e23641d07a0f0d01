import cv2
import numpy as np
import pytest
import tifffile
from conftest import whole

from cellseg_mm.images import ArraySource, ResampledSource, open_image
from cellseg_mm.images.tiff_source import TiffSource

NOISE = np.random.default_rng(0).integers(0, 256, (301, 407, 3), dtype=np.uint8)


def smooth(height, width):
    """(height, width, 3) uint8 without details that shrinking would lose."""
    rows, cols = np.mgrid[:height, :width]
    waves = [np.sin(rows / 31 + phase) + np.cos(cols / 37 + phase) for phase in range(3)]
    return np.rint(127 + 60 * np.stack(waves, axis=2)).astype(np.uint8)


@pytest.mark.parametrize('factor', [0.125, 0.3, 1 / 3, 0.5, 0.99, 1.7, 2, 8])
def test_the_image_is_that_of_opencv(factor):
    """INTER_AREA where it shrinks, INTER_LINEAR where it grows; both keep corners on corners."""
    source = ResampledSource(ArraySource(NOISE, pixel_size=0.5), factor)
    assert (source.width, source.height) == (round(407 * factor), round(301 * factor))
    assert source.pixel_size == 0.5 / factor
    mode = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    expected = cv2.resize(NOISE, (source.width, source.height), interpolation=mode)
    found = whole(source)
    assert found.dtype == np.uint8 and np.abs(found.astype(int) - expected).max() <= 1
    x, y, width, height = source.width // 3, source.height // 4, source.width // 2, source.height // 3
    assert np.array_equal(source.read(x, y, width, height), found[y : y + height, x : x + width])
    assert np.array_equal(source.read(source.width - 1, 0, 1, 1), found[:1, -1:])


@pytest.mark.parametrize('factor', [0.25, 0.7, 1.5, 4])
def test_points_stay_where_they_are(factor):
    """The centroid of a square, in px from the corner, is multiplied by the factor."""
    image = np.zeros((200, 240, 3), np.uint8)
    image[40:80, 100:140] = 255
    shown = whole(ResampledSource(ArraySource(image), factor))[..., 0].astype(float)
    rows, cols = np.mgrid[: shown.shape[0], : shown.shape[1]] + 0.5
    centroid = np.array([(shown * cols).sum(), (shown * rows).sum()]) / shown.sum()
    assert centroid == pytest.approx(np.array([120, 60]) * factor, abs=0.02 * factor + 0.01)


@pytest.mark.parametrize(('factor', 'level'), [(1, 0), (0.6, 0), (0.5, 1), (0.34, 1), (0.25, 2), (0.28, 1), (0.05, 2)])
def test_the_coarsest_level_that_is_fine_enough_is_read(factor, level):
    image = smooth(400, 600)
    source = ArraySource(image)
    source.levels = [ArraySource(cv2.resize(image, None, fx=1 / k, fy=1 / k, interpolation=3)) for k in (2, 4)]
    for one, step in zip(source.levels, (2, 4), strict=True):
        one.downsample = (step, step)
    found = ResampledSource(source, factor)
    assert found.level == level
    direct = whole(ResampledSource(ArraySource(image), factor)).astype(int)
    assert np.abs(whole(found) - direct).max() <= 2


def write_pyramid(path, image, kind):
    """A slide of Aperio, or an OME-TIFF with SubIFDs; levels drop what is left over at the right and the bottom."""
    steps, options = (2, 4), dict(photometric='rgb', tile=(64, 64), compression='zlib')
    height, width = image.shape[:2]
    levels = [
        cv2.resize(image[: height // k * k, : width // k * k], (width // k, height // k), interpolation=cv2.INTER_AREA)
        for k in steps
    ]
    with tifffile.TiffWriter(path, ome=kind == 'ome') as file:
        if kind == 'ome':
            file.write(image, subifds=2, metadata=dict(PhysicalSizeX=0.25, PhysicalSizeY=0.25), **options)
            for level in levels:
                file.write(level, subfiletype=1, **options)
        else:
            file.write(image, description='Aperio Image Library|MPP = 0.25', metadata=None, **options)
            file.write(image[::5, ::5][:, :60], photometric='rgb', metadata=None)  # a label
            for level in levels:
                file.write(level, metadata=None, **options)


@pytest.mark.parametrize('kind', ['ome', 'svs'])
def test_levels_of_tiff_files(kind, tmp_path):
    image, path = smooth(403, 606), tmp_path / f'x.{dict(ome="ome.tif", svs="svs")[kind]}'
    write_pyramid(path, image, kind)
    source = open_image(path)
    assert (source.pixel_size, source.width, source.height) == (0.25, 606, 403)
    assert [(level.downsample, level.width, level.height) for level in source.levels] == [
        ((2, 2), 303, 201),
        ((4, 4), 151, 100),
    ]
    half = ResampledSource(source, 0.5)
    assert half.level == 1 and half.height == 202  # one row more than the level has
    expected = whole(ResampledSource(ArraySource(image), 0.5)).astype(int)
    assert np.abs(whole(half) - expected).max() <= 2
    exchanged = open_image(path, 'bgr')
    assert np.array_equal(whole(ResampledSource(exchanged, 0.25)), whole(ResampledSource(source, 0.25))[..., ::-1])
    assert ResampledSource(exchanged, 0.25).level == 2


def test_only_the_level_is_decoded(tmp_path, monkeypatch):
    write_pyramid(tmp_path / 'x.svs', smooth(403, 606), 'svs')
    source, decoded = open_image(tmp_path / 'x.svs'), []
    decode = TiffSource._decode
    monkeypatch.setattr(TiffSource, '_decode', lambda self, index: decoded.append(self.width) or decode(self, index))
    for level in source.levels:
        level._use(level._pages)  # with the function above
    ResampledSource(source, 0.5).read(10, 10, 100, 60)
    assert decoded and set(decoded) == {303}


def test_a_plain_tiff_and_one_of_other_pages_have_no_levels(tmp_path):
    image = smooth(300, 400)
    tifffile.imwrite(tmp_path / 'plain.tif', image, photometric='rgb')
    with tifffile.TiffWriter(tmp_path / 'pages.tif') as file:
        for page in (image, image[:100, :200], image[::2, ::2, 0].copy(), image[:151, :180]):
            file.write(page, photometric='rgb' if page.ndim == 3 else 'minisblack')
    assert [open_image(tmp_path / name).levels for name in ('plain.tif', 'pages.tif')] == [(), ()]


def test_levels_of_openslide(tmp_path):
    from cellseg_mm.images import OpenSlideSource

    image = smooth(512, 640)
    with tifffile.TiffWriter(tmp_path / 'x.tif') as file:
        options = dict(photometric='rgb', tile=(64, 64), compression='jpeg', compressionargs=dict(level=98))
        file.write(image, **options)
        file.write(cv2.resize(image, (320, 256), interpolation=cv2.INTER_AREA), subfiletype=1, **options)
    source = OpenSlideSource(tmp_path / 'x.tif')
    (level,) = source.levels
    assert (level.downsample, level.width, level.height) == ((2, 2), 320, 256)
    half = ResampledSource(source, 0.5)
    expected = whole(ResampledSource(ArraySource(image), 0.5)).astype(int)
    assert half.level == 1 and np.abs(whole(half) - expected).mean() < 2
    assert np.array_equal(half.read(33, 21, 100, 80), whole(half)[21:101, 33:133])
