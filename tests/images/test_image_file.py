"""Every kind of file against the plain 8-bit image that it was written from."""

import builtins
import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from conftest import whole
from PIL import Image

from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.images import ArraySource, OpenSlideSource, full_scale, open_image, read_overview
from cellseg_mm.images.tiff_source import CHANNELS
from cellseg_mm.utils import UserError

HEIGHT, WIDTH = 150, 210
RGB = draw_tissue(np.random.default_rng(5), HEIGHT, WIDTH)[0]
GREY = RGB[..., 1]
ALPHA = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 1), dtype=np.uint8)
GREY_RGB = np.repeat(GREY[..., None], 3, axis=2)
TILE = dict(tile=(32, 48))


def write_png(path, array):
    """Of any depth, by OpenCV."""
    order = [2, 1, 0, 3][: array.shape[2]] if array.ndim == 3 else slice(None)
    assert cv2.imwrite(str(path), array[..., order] if array.ndim == 3 else array)


def write_jpeg2000(path, array):
    """Without loss, by OpenCV."""
    assert cv2.imwrite(str(path), array[..., ::-1], [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])


def tiff(array, **options):
    options = dict(photometric='rgb' if array.ndim == 3 and array.shape[-1] in (3, 4) else 'minisblack', **options)
    return lambda path: tifffile.imwrite(path, array, **options)


def pillow(array, **options):
    return lambda path: Image.fromarray(array).save(path, **options)


RGBA = np.dstack([RGB, ALPHA])
TWELVE = np.rint(RGB * (4095 / 255)).astype(np.uint16)
# name of the file, what writes it, the image it holds, its note
TWINS = [
    ('rgb.png', pillow(RGB), RGB, ''),
    ('alpha.png', pillow(RGBA), RGB, 'alpha dropped'),
    ('16.png', lambda path: write_png(path, RGB * np.uint16(257)), RGB, '16 bit, 65535 becomes 255'),
    ('12.png', lambda path: write_png(path, TWELVE), RGB, '16 bit, 4095 becomes 255'),
    (
        'alpha16.png',
        lambda path: write_png(path, RGBA * np.uint16(257)),
        RGB,
        'alpha dropped; 16 bit, 65535 becomes 255',
    ),
    ('grey.png', pillow(GREY), GREY_RGB, 'grey, taken for red, green and blue'),
    (
        'grey16.png',
        lambda path: write_png(path, GREY * np.uint16(257)),
        GREY_RGB,
        'grey, taken for red, green and blue; 16 bit, 65535 becomes 255',
    ),
    (
        'grey_alpha.png',
        pillow(np.dstack([GREY, ALPHA])),
        GREY_RGB,
        'grey, taken for red, green and blue; alpha dropped',
    ),
    (
        'grey_alpha.tif',
        pillow(np.dstack([GREY, ALPHA])),
        GREY_RGB,
        'grey, taken for red, green and blue; alpha dropped',
    ),
    ('rgb.bmp', pillow(RGB), RGB, ''),
    ('rgb.webp', pillow(RGB, lossless=True), RGB, ''),
    ('rgb.jp2', pillow(RGB, irreversible=False), RGB, ''),
    ('16.jp2', lambda path: write_jpeg2000(path, RGB * np.uint16(257)), RGB, '16 bit, 65535 becomes 255'),
    ('12.jp2', lambda path: write_jpeg2000(path, TWELVE), RGB, '16 bit, 4095 becomes 255'),
    ('rgb.tif', tiff(RGB), RGB, ''),
    ('big_endian.tif', tiff(RGB * np.uint16(257), byteorder='>'), RGB, '16 bit, 65535 becomes 255'),
    ('lzw.tif', tiff(RGB, compression='lzw', predictor=True, rowsperstrip=7), RGB, ''),
    (
        'planes.tif',
        lambda path: tifffile.imwrite(
            path, RGB.transpose(2, 0, 1), photometric='rgb', planarconfig='separate', compression='zlib', **TILE
        ),
        RGB,
        '',
    ),
    (
        'planes_plain.tif',
        lambda path: tifffile.imwrite(path, RGB.transpose(2, 0, 1), photometric='rgb', planarconfig='separate'),
        RGB,
        '',
    ),
    ('alpha.tif', tiff(RGBA, extrasamples=['unassalpha']), RGB, 'alpha dropped'),
    ('fourth.tif', tiff(RGBA, extrasamples=['unspecified']), RGB, 'fourth channel dropped'),
    ('opencv.tif', lambda path: cv2.imwrite(str(path), RGBA[..., [2, 1, 0, 3]]), RGB, 'fourth channel dropped'),
    ('16.tif', tiff(RGB * np.uint16(257), compression='deflate', **TILE), RGB, '16 bit, 65535 becomes 255'),
    ('float.tif', tiff((RGB / 255).astype(np.float32), **TILE), RGB, '32 bit float, 1 becomes 255'),
    ('float_255.tif', tiff(RGB.astype(np.float64)), RGB, '64 bit float, 255 becomes 255'),
    ('int32.tif', tiff(RGB.astype(np.int32)), RGB, '32 bit, 255 becomes 255'),
    ('grey.tif', tiff(GREY), GREY_RGB, 'grey, taken for red, green and blue'),
    (
        'inverted.tif',
        lambda path: tifffile.imwrite(path, 255 - GREY, photometric='miniswhite'),
        GREY_RGB,
        'grey stored inverted, taken for red, green and blue',
    ),
    ('bigtiff.tif', tiff(RGB, bigtiff=True, compression='zstd', **TILE), RGB, ''),
    ('jpeg2000.tif', tiff(RGB, compression='jpeg2000', **TILE), RGB, ''),
]


@pytest.mark.parametrize(('name', 'write', 'expected', 'note'), TWINS, ids=[twin[0] for twin in TWINS])
def test_a_file_gives_the_pixels_it_was_written_from(name, write, expected, note, tmp_path):
    write(tmp_path / name)
    source = open_image(tmp_path / name)
    assert (source.height, source.width) == (HEIGHT, WIDTH) and source.note == note
    found = whole(source)
    assert found.dtype == np.uint8 and np.array_equal(found, expected)
    for x, y, width, height in ((0, 0, 1, 1), (31, 47, 50, 33), (WIDTH - 20, HEIGHT - 9, 20, 9), (48, 32, 48, 32)):
        window = source.read(x, y, width, height)
        assert np.array_equal(window, expected[y : y + height, x : x + width])


def test_files_that_lose_something_are_as_pillow_reads_them(tmp_path):
    image, expected = Image.fromarray(RGB), {}
    for name, made, note in (
        ('palette.png', image.quantize(64), 'palette'),
        ('palette_160_px_wide.png', image.crop((0, 0, 160, 160)).quantize(64), 'palette'),  # 16 is no depth there
        ('palette.tif', image.quantize(64), 'palette'),
        ('bilevel.tif', image.convert('1'), 'grey, taken for red, green and blue'),
        ('bilevel.png', image.convert('1'), 'grey, taken for red, green and blue'),
        ('cmyk.jpg', image.convert('CMYK'), 'CMYK, converted without a colour profile'),
        ('cmyk.tif', image.convert('CMYK'), 'CMYK, converted without a colour profile'),
        ('rgb.jpg', image, ''),
    ):
        made.save(tmp_path / name)
        with Image.open(tmp_path / name) as read:
            expected[name] = np.array(read.convert('RGB'))
        source = open_image(tmp_path / name)
        assert source.note == note and np.array_equal(whole(source), expected[name]), name


def test_a_palette_may_have_8_bits(tmp_path):
    """As OpenCV, with libtiff, reads it."""
    colors = np.random.default_rng(0).integers(0, 256, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / 'x.tif', GREY, photometric='palette', colormap=colors)
    found = whole(open_image(tmp_path / 'x.tif'))
    assert np.array_equal(found, colors.T[GREY]) and np.array_equal(found[..., ::-1], cv2.imread(tmp_path / 'x.tif'))


@pytest.mark.parametrize('subsampling', [(1, 1), (2, 2)])
def test_windows_of_a_slide_of_jpeg_tiles_are_slices_of_the_whole(subsampling, tmp_path):
    path, description = tmp_path / 'slide.svs', 'Aperio Image Library v11.2.1 \r\n210x150|AppMag = 40|MPP = 0.2520'
    options = dict(photometric='rgb', tile=(64, 64), compression='jpeg', subsampling=subsampling)
    with tifffile.TiffWriter(path) as file:
        file.write(RGB, description=description, metadata=None, **options)
        file.write(RGB[::2, ::2].copy(), description=description, metadata=None, **options)
    source, expected = open_image(path), tifffile.imread(path, key=0)
    assert source.pixel_size == 0.252 and source.note == 'page 1 of 2'
    assert np.abs(expected.astype(int) - RGB).mean() < 12  # it is the picture, in RGB
    assert np.array_equal(whole(source), expected)
    for x, y, width, height in ((60, 60, 10, 10), (5, 130, 200, 20)):
        assert np.array_equal(source.read(x, y, width, height), expected[y : y + height, x : x + width])


def test_only_the_tiles_that_a_window_meets_are_decoded(tmp_path):
    path = tmp_path / 'large.tif'
    side, tile = 8192, 256
    shape, tiles = (side, side, 3), (side // tile) ** 2
    block = np.full((tile, tile, 3), 7, np.uint8)
    tifffile.imwrite(
        path,
        (block for _ in range(tiles)),
        shape=shape,
        dtype=np.uint8,
        tile=(tile, tile),
        photometric='rgb',
        compression='zlib',
    )
    # all but the four tiles about (256, 256) are made undecodable
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        kept = {row * 32 + col for row in (0, 1) for col in (0, 1)}
        places = [
            place
            for index, place in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True))
            if index not in kept
        ]
    data = bytearray(path.read_bytes())
    for offset, count in places:
        data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    tracemalloc.start()
    source = open_image(path)
    assert (source.read(200, 200, 200, 200) == 7).all()
    assert tracemalloc.get_traced_memory()[1] < 2**23  # the whole takes 2**27.6
    tracemalloc.stop()
    with pytest.raises(UserError, match='cannot be decoded from byte'):
        source.read(400, 400, 200, 200)


def test_tiles_that_the_file_leaves_out_are_white(tmp_path):
    path = tmp_path / 'sparse.tif'
    tifffile.imwrite(path, RGB[:64, :96].copy(), tile=(32, 48), photometric='rgb', compression='zlib')
    with tifffile.TiffFile(path, mode='r+') as file:
        counts = list(file.pages[0].databytecounts)
        file.pages[0].tags['TileByteCounts'].overwrite([0, *counts[1:]])
    found = whole(open_image(path))
    assert (found[:32, :48] == 255).all() and np.array_equal(found[32:], RGB[32:64, :96])


def test_the_largest_page_is_taken_and_said(tmp_path):
    path = tmp_path / 'pages.tif'
    with tifffile.TiffWriter(path) as file:
        for array in (RGB[:60, :60], RGB, RGB[::-1]):
            file.write(array.copy(), photometric='rgb')
    source = open_image(path)
    assert source.note == 'page 2 of 3' and np.array_equal(whole(source), RGB)


def test_an_exif_orientation_is_not_applied_but_said(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / 'turned.png', exif=exif)
    source = open_image(tmp_path / 'turned.png')
    assert np.array_equal(whole(source), RGB) and source.note == 'orientation 6 not applied'
    tifffile.imwrite(tmp_path / 'turned.tif', RGB, photometric='rgb', extratags=[(274, 'H', 1, 6, True)])
    source = open_image(tmp_path / 'turned.tif')
    assert np.array_equal(whole(source), RGB) and source.note == 'orientation 6 not applied'


def test_pixel_sizes(tmp_path):
    def size(**options):
        tifffile.imwrite(tmp_path / 'x.tif', RGB, **dict(photometric='rgb', **options))
        return open_image(tmp_path / 'x.tif').pixel_size

    per_cm = 1e4 / 0.25
    assert size(resolution=(per_cm, per_cm), resolutionunit='CENTIMETER') == pytest.approx(0.25)
    assert size(resolution=(25400 / 0.5,) * 2, resolutionunit='INCH') == pytest.approx(0.5)
    assert size(resolution=(4, 4), imagej=True, metadata=dict(unit='um')) == pytest.approx(0.25)
    assert size(ome=True, metadata=dict(PhysicalSizeX=0.3, PhysicalSizeY=0.3)) == pytest.approx(0.3)
    nanometres = dict(PhysicalSizeX=300, PhysicalSizeXUnit='nm', PhysicalSizeY=300, PhysicalSizeYUnit='nm')
    assert size(ome=True, metadata=nanometres) == pytest.approx(0.3)
    assert size() is None
    assert size(resolution=(72, 72), resolutionunit='INCH') is None  # a printer's
    assert size(resolution=(per_cm, per_cm), resolutionunit='NONE') is None
    assert size(resolution=(per_cm, 2 * per_cm), resolutionunit='CENTIMETER') is None  # not square
    assert size(description='Aperio Image Library|MPP = unknown', metadata=None) is None


def test_the_pixel_size_is_that_of_the_image_that_is_read(tmp_path):
    with tifffile.TiffWriter(tmp_path / 'x.tif', ome=True) as file:
        for image, size in ((RGB[:30, :40], 4.0), (RGB, 0.25)):
            file.write(image, photometric='rgb', metadata=dict(axes='YXS', PhysicalSizeX=size, PhysicalSizeY=size))
    source = open_image(tmp_path / 'x.tif')
    assert (source.width, source.pixel_size, source.note) == (WIDTH, 0.25, 'page 2 of 2')


def test_full_scale_is_the_fewest_bits_that_hold_the_largest_value():
    uint16 = np.dtype(np.uint16)
    found = [full_scale(uint16, 16, 0, largest) for largest in (0, 255, 256, 1023, 1024, 4095, 16383, 16384, 65535)]
    assert found == [255, 255, 1023, 1023, 4095, 4095, 16383, 65535, 65535]
    assert full_scale(np.dtype(np.float32), 32, 0, 1.0) == 1 and full_scale(np.dtype(np.float32), 32, 0, 1.5) == 255
    assert full_scale(np.dtype(np.uint8), 4, 0, 3) == 15


def test_red_and_blue_exchanged_are_put_right(tmp_path):
    Image.fromarray(RGBA[..., [2, 1, 0, 3]]).save(tmp_path / 'x.png')
    source = open_image(tmp_path / 'x.png', 'bgr')
    assert (
        np.array_equal(whole(source), RGB)
        and source.note == 'alpha dropped; red and blue exchanged in the file, corrected'
    )


def test_an_overview_is_the_mean_of_blocks():
    source = ArraySource(np.random.default_rng(0).integers(0, 256, (1301, 907, 3), dtype=np.uint8))
    overview, shrink = read_overview(source, 500)
    assert shrink == 3 and overview.shape == (433, 302, 3)
    blocks = whole(source)[: 433 * 3, : 302 * 3].reshape(433, 3, 302, 3, 3).mean(axis=(1, 3))
    assert np.abs(overview - blocks).max() <= 1
    overview, shrink = read_overview(source, 1301)
    assert shrink == 1 and np.array_equal(overview, whole(source))


def test_openslide_gives_what_tifffile_gives(tmp_path, monkeypatch):
    path = tmp_path / 'slide.tif'
    tifffile.imwrite(path, RGB, photometric='rgb', tile=(64, 64), compression='zlib')
    with monkeypatch.context() as patch:
        patch.setattr(builtins, '__import__', _without_openslide(builtins.__import__))
        with pytest.raises(UserError, match='pip install openslide-python openslide-bin'):
            OpenSlideSource(path)
    source = OpenSlideSource(path)
    assert source.pixel_size is None and np.array_equal(whole(source), RGB)
    assert np.array_equal(source.read(50, 60, 100, 20), RGB[60:80, 50:150])
    (tmp_path / 'slide.mrxs').write_bytes(b'nothing')
    with pytest.raises(UserError, match='openslide cannot read it'):
        open_image(tmp_path / 'slide.mrxs')


def write_leica(path, bounds, canvas):
    """A slide of Leica whose main image lies at x, y of a canvas of width, height."""
    (x, y), (width, height) = bounds, canvas

    def image(name, ifd, size, view):
        view = dict(zip(('sizeX', 'sizeY', 'offsetX', 'offsetY'), (250 * value for value in view), strict=True))
        view = ' '.join(f'{key}="{value}"' for key, value in view.items())
        size = f'sizeX="{size[0]}" sizeY="{size[1]}"'
        return (
            f'<image name="{name}" uuid="{ifd}"><creationDate>2013-01-01T00:00:00.00Z</creationDate>'
            '<device model="Leica SCN400;Leica SCN" version="1.5"/>'
            f'<pixels {size}><dimension {size} r="0" ifd="{ifd}"/></pixels>'
            f'<view {view}/><scanSettings><objectiveSettings><objective>{40 if ifd else 1}</objective>'
            '</objectiveSettings><illuminationSettings><illuminationSource>brightfield</illuminationSource>'
            '</illuminationSettings></scanSettings></image>'
        )

    macro = np.full((height // 8, width // 8, 3), 240, np.uint8)
    parts = image('macro', 0, macro.shape[1::-1], (width, height, 0, 0))
    parts += image('main', 1, (WIDTH, HEIGHT), (WIDTH, HEIGHT, x, y))
    description = (
        '<?xml version="1.0"?>\n<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="9">'
        f'<collection name="c" uuid="8" sizeX="{250 * width}" sizeY="{250 * height}">{parts}</collection></scn>'
    )
    options = dict(photometric='rgb', tile=(64, 64), compression='jpeg', metadata=None)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(macro, description=description, **options)
        file.write(RGB, compressionargs=dict(level=95), **options)


def test_a_slide_is_cut_to_the_region_that_viewers_show(tmp_path):
    """Coordinates begin at openslide's bounds, and only their area counts."""
    write_leica(tmp_path / 'slide.scn', (512, 384), (1024, 768))
    source = open_image(tmp_path / 'slide.scn')
    assert (source.width, source.height) == (WIDTH, HEIGHT)
    assert source.note.endswith('(0, 0) is at x 512, y 384 of the full 1024x768 px')
    assert np.abs(whole(source).astype(int) - RGB).mean() < 6  # of JPEG
    part = source.read(50, 60, 100, 20)
    assert np.array_equal(part, whole(source)[60:80, 50:150])


def test_a_tiff_that_only_openslide_reads_goes_there(tmp_path, monkeypatch):
    """Here one whose kind is made unknown; plain TIFF, and files that are cut off, do not."""
    write_leica(tmp_path / 'slide.tif', (512, 384), (1024, 768))
    assert open_image(tmp_path / 'slide.tif').note == 'page 2 of 2'
    monkeypatch.setitem(CHANNELS, 'YCBCR', 9)
    assert open_image(tmp_path / 'slide.tif').note.startswith('the scanned region')
    tifffile.imwrite(tmp_path / 'plain.tif', RGB, photometric='rgb', tile=(64, 64), compression='jpeg')
    with pytest.raises(UserError, match='channels of kind YCBCR'):
        open_image(tmp_path / 'plain.tif')


PLANES = np.ascontiguousarray(RGB.transpose(2, 0, 1))
STACK = np.stack([PLANES, PLANES[::-1]])  # two planes in depth, of three channels each


@pytest.mark.parametrize(
    'options',
    [
        dict(imagej=True),
        dict(ome=True),
        dict(ome=True, compression='zlib'),
        dict(ome=True, tile=(32, 48), compression='lzw'),
    ],
)
@pytest.mark.parametrize('array, axes, note', [(PLANES, 'CYX', ''), (STACK, 'ZCYX', ', the first of 2')])
def test_planes_are_colours_where_the_file_calls_them_channels(tmp_path, array, axes, note, options):
    path = tmp_path / 'x.tif'
    tifffile.imwrite(path, array, photometric='minisblack', metadata=dict(axes=axes), **options)
    source = open_image(path)
    assert np.array_equal(whole(source), RGB)
    assert np.array_equal(source.read(50, 60, 100, 20), RGB[60:80, 50:150])
    assert source.note == f'three channels, taken for red, green and blue{note}'


def test_three_planes_of_which_nothing_is_said_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / 'x.tif', PLANES, photometric='minisblack')
    with pytest.raises(UserError, match='three grey pages, which may be colours or a stack'):
        open_image(tmp_path / 'x.tif')
    tifffile.imwrite(tmp_path / 'x.tif', PLANES[[0, 1, 2, 0]], photometric='minisblack')
    assert open_image(tmp_path / 'x.tif').note.startswith('page 1 of 4')


def _without_openslide(actual):
    def import_module(name, *arguments, **options):
        if name == 'openslide':
            raise ImportError(name)
        return actual(name, *arguments, **options)

    return import_module


def bomb() -> bytes:
    """A PNG whose header says 30,000 x 30,000 px."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', 30_000, 30_000, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(bytes(100)))


def encoded(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    if kind == 'TIFF':
        tifffile.imwrite(buffer, RGB, photometric='rgb', **options)
    else:
        Image.fromarray(RGB).save(buffer, kind, **options)
    return buffer.getvalue()


def of_tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


BAD = {
    'text.png': (b'no image', 'not a PNG, JPEG'),
    'empty.tif': (b'', 'is empty'),
    'cut.png': (encoded('PNG')[:-3000], 'damaged or cut off'),
    'cut.jpg': (encoded('JPEG')[:-1500], 'damaged or cut off'),
    'cut.tif': (encoded('TIFF')[:-5000], 'cut off or damaged'),
    'cut_lzw.tif': (encoded('TIFF', compression='lzw', **TILE)[:-5000], 'cut off or damaged'),
    'start.tif': (encoded('TIFF')[:6], 'not a complete TIFF'),
    'header.tif': (encoded('TIFF')[:200], 'is not a complete TIFF|cut off or damaged'),
    'one_px.png': (b'', '1x1 px; at least 8 a side'),
    'bomb.png': (bomb(), 'megapixels, and this format can only be read whole'),
    'negative.tif': (of_tiff(RGB.astype(np.float32) - 300, photometric='rgb'), 'values go from'),
    'nan.tif': (of_tiff(np.full((20, 20), np.nan, np.float32)), 'values go from nan'),
    'two.tif': (
        of_tiff(np.zeros((20, 20, 2), np.uint8), photometric='minisblack', planarconfig='contig'),
        'two channels, of which none is said to be alpha',
    ),
    'five.tif': (of_tiff(np.zeros((20, 20, 5), np.uint8), photometric='rgb'), '5 channels of kind RGB'),
    'volume.tif': (
        of_tiff(np.zeros((4, 32, 32), np.uint8), photometric='minisblack', volumetric=True, tile=(4, 16, 16)),
        'not an image of numbers',
    ),
    'complex.tif': (of_tiff(np.zeros((20, 20), np.complex64)), 'not an image of numbers'),
    'vector.svg': (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'not a PNG, JPEG'),
    'program.eps': (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n', 'not a PNG, JPEG'),
}


@pytest.mark.parametrize('name', BAD)
def test_a_bad_file_is_one_line(name, tmp_path):
    content, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    if name == 'one_px.png':
        Image.fromarray(RGB[:1, :1]).save(path)
    with pytest.raises(UserError, match=message) as error:
        whole(open_image(path))
    assert '\n' not in str(error.value) and str(error.value).startswith(str(path))


def test_what_is_no_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match='is a folder without a DICOM slide or OME-Zarr'):
        open_image(tmp_path)
    with pytest.raises(UserError, match='No such file'):
        open_image(tmp_path / 'none.png')


def test_a_huge_strip_that_must_be_decoded_at_once_is_refused(tmp_path):
    path = tmp_path / 'strip.tif'
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), compression='zlib', rowsperstrip=64)
    with tifffile.TiffFile(path, mode='r+') as file:
        for name in ('ImageLength', 'ImageWidth', 'RowsPerStrip'):
            file.pages[0].tags[name].overwrite(30_000)
    with pytest.raises(UserError, match='save it as a tiled TIFF'):
        open_image(path)


def test_array_source_takes_rgb_alone():
    with pytest.raises(ValueError, match='uint8 RGB'):
        ArraySource(GREY)
