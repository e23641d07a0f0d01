"""OME-Zarr that ome-zarr wrote, and what is wrong with some of it."""

import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from conftest import whole
from written_slides import write_ome_zarr

from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.images import ArraySource, OmeZarrSource, ResampledSource, open_image
from cellseg_mm.utils import UserError

zarr = pytest.importorskip('zarr', minversion='3')
RGB = draw_tissue(np.random.default_rng(5), 301, 452)[0]
PLANES = RGB.transpose(2, 0, 1)
VERSIONS = ['0.4', '0.5']


def channels(*colors):
    window = dict(start=0, end=255, min=0, max=255)
    return dict(omero=dict(channels=[dict(color=color, label=color, window=window) for color in colors]))


@pytest.fixture(scope='module', params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture(scope='module')
def store(version, tmp_path_factory):
    return write_ome_zarr(tmp_path_factory.mktemp('store') / 'tissue.ome.zarr', PLANES, 'cyx', version)


def metadata(folder):
    """The file of a group's attributes, their content, and the part of it that is OME's."""
    path = folder / '.zattrs' if (folder / '.zattrs').exists() else folder / 'zarr.json'
    content = json.loads(path.read_text())
    attributes = content if path.name == '.zattrs' else content['attributes']
    return path, content, attributes.get('ome', attributes)


def changed(folder, tmp_path, change):
    """A copy of a store, with the attributes of OME changed."""
    copy = shutil.copytree(folder, tmp_path / 'changed.zarr')
    path, content, ome = metadata(copy)
    change(ome)
    path.write_text(json.dumps(content))
    return copy


TAKEN = 'three channels, taken for red, green and blue'


@pytest.mark.parametrize(
    ('array', 'axes', 'options', 'expected', 'note'),
    [
        (PLANES, 'cyx', {}, RGB, TAKEN),
        (PLANES, 'cyx', channels('FF0000', '00FF00', '0000FF'), RGB, ''),
        (PLANES[[2, 0, 1]], 'cyx', channels('0000ff', 'ff0000', '00ff00'), RGB, ''),
        (PLANES[[2, 0, 1]], 'cyx', channels('#0000FF', '#FF0000', '#00FF00'), RGB, ''),
        (PLANES > 127, 'cyx', {}, np.where(RGB > 127, 255, 0), TAKEN),
        (PLANES, 'cyx', channels('00FFFF', '00FF00', '0000FF'), RGB, TAKEN),
        (PLANES[None, :, None], 'tczyx', channels('FF0000', '00FF00', '0000FF'), RGB, ''),
        (PLANES * np.uint16(257), 'cyx', {}, RGB, f'{TAKEN}; 16 bit, 65535 becomes 255'),
        ((PLANES / 255).astype(np.float32), 'cyx', {}, RGB, f'{TAKEN}; 32 bit float, 1 becomes 255'),
        (RGB[..., 1], 'yx', {}, np.repeat(RGB[..., 1:2], 3, axis=2), 'grey, taken for red, green and blue'),
        (RGB[None, :, :, 1], 'cyx', {}, np.repeat(RGB[..., 1:2], 3, axis=2), 'grey, taken for red, green and blue'),
    ],
)
def test_a_store_gives_the_pixels_it_was_written_from(array, axes, options, expected, note, version, tmp_path):
    source = open_image(write_ome_zarr(tmp_path / 'x.zarr', array, axes, version, **options))
    assert isinstance(source, OmeZarrSource) and source.name == 'x.zarr'
    assert (source.height, source.width, source.note, source.pixel_size) == (301, 452, note, 0.25)
    found = whole(source)
    assert found.dtype == np.uint8 and np.array_equal(found, expected)
    for x, y, width, height in ((0, 0, 1, 1), (60, 50, 100, 90), (440, 290, 12, 11), (64, 64, 64, 64)):
        assert np.array_equal(source.read(x, y, width, height), expected[y : y + height, x : x + width])


def test_red_and_blue_exchanged_and_levels(store):
    source, exchanged = open_image(store), open_image(store, 'bgr')
    assert [(level.downsample, level.width) for level in source.levels] == [((2, 2), 226), ((4, 4), 113)]
    assert np.array_equal(whole(exchanged), RGB[..., ::-1])
    half, direct = ResampledSource(source, 0.5), ResampledSource(ArraySource(RGB), 0.5)
    assert half.level == 1
    assert np.abs(whole(half).astype(int) - whole(direct)).mean() < 4  # 301 rows, of which the level has 300


@pytest.mark.parametrize('nested', [False, True])
def test_zip_files(store, nested, tmp_path):
    place = (store.parent, store.name) if nested else (store, '.')
    path = shutil.make_archive(str(tmp_path / 'x.zarr'), 'zip', *place)
    source = open_image(path)
    assert (source.name, source.pixel_size) == ('x.zarr.zip', 0.25) and np.array_equal(whole(source), RGB)
    assert sorted(item.name for item in tmp_path.iterdir()) == ['x.zarr.zip']  # it was not unpacked


def test_only_the_chunks_of_a_window_are_read(store, tmp_path):
    copy = shutil.copytree(store, tmp_path / 'x.zarr')
    _, _, ome = metadata(copy)
    array = copy / ome['multiscales'][0]['datasets'][0]['path']
    for path in array.rglob('*'):
        if path.is_file() and not path.name.startswith(('.z', 'zarr')) and path.parts[-2:] not in (('1', '1'),):
            path.write_bytes(b'damaged')
    source = open_image(copy)
    assert np.array_equal(source.read(70, 70, 50, 50), RGB[70:120, 70:120])
    with pytest.raises(UserError, match=r'x\.zarr: is not a complete OME-Zarr image at x 0, y 70') as error:
        source.read(0, 70, 50, 50)
    assert '\n' not in str(error.value)


def test_pixel_sizes(store, tmp_path):
    def size(change):
        shutil.rmtree(tmp_path / 'changed.zarr', ignore_errors=True)
        return open_image(changed(store, tmp_path, change)).pixel_size

    def unit(name):
        def change(ome):
            for axis in ome['multiscales'][0]['axes'][1:]:
                axis['unit'] = name

        return change

    def scale(values, of_all=None):
        def change(ome):
            ome['multiscales'][0]['datasets'][0]['coordinateTransformations'][0]['scale'] = values
            if of_all:
                ome['multiscales'][0]['coordinateTransformations'] = [dict(type='scale', scale=of_all)]

        return change

    assert size(lambda ome: None) == 0.25
    assert size(unit('millimeter')) is None  # no microscope has such px
    assert size(unit('parsec')) is None and size(unit(None)) is None
    assert size(scale([1, 0.5, 0.5])) == 0.5 and size(scale([1, 0.5, 0.25])) is None
    assert size(scale([1, 0.5, 0.5], [1, 2, 2])) == 1.0
    assert size(lambda ome: ome['multiscales'][0]['datasets'][0].pop('coordinateTransformations')) is None


def test_the_first_of_several_images_is_taken_and_said(version, tmp_path):
    """The layout of bioformats2raw."""
    root = zarr.open_group(str(tmp_path / 'x.zarr'), mode='w', zarr_format=2 if version == '0.4' else 3)
    layout = {'bioformats2raw.layout': 3}
    root.attrs.update(layout if version == '0.4' else dict(ome=dict(layout, version='0.5')))
    for name, array in (('0', PLANES), ('1', PLANES[:, :40, :60])):
        write_ome_zarr(tmp_path / 'x.zarr' / name, array, 'cyx', version)
    source = open_image(tmp_path / 'x.zarr')
    assert source.note.startswith('image 1 of 2; ') and np.array_equal(whole(source), RGB)
    assert open_image(tmp_path / 'x.zarr/1').width == 60


@pytest.mark.parametrize(
    ('array', 'axes', 'message'),
    [
        (np.stack([PLANES, PLANES], axis=1), 'czyx', 'has 2 planes along z; save one of them, or a projection'),
        (np.stack([PLANES] * 3), 'tcyx', 'has 3 planes along t'),
        (np.concatenate([PLANES, PLANES])[:4], 'cyx', 'has 4 channels; save one .grey., or three'),
        (PLANES.astype(np.float32) - 300, 'cyx', 'its values go from'),
    ],
)
def test_what_is_not_a_picture_in_colours_is_one_line(array, axes, message, version, tmp_path):
    path = write_ome_zarr(tmp_path / 'x.zarr', array, axes, version)
    with pytest.raises(UserError, match=rf'x\.zarr: {message}') as error:
        open_image(path)
    assert '\n' not in str(error.value)


def test_damaged_stores_are_one_line(store, tmp_path):
    def message(change):
        shutil.rmtree(tmp_path / 'changed.zarr', ignore_errors=True)
        with pytest.raises(UserError) as error:
            open_image(changed(store, tmp_path, change))
        assert '\n' not in str(error.value) and str(error.value).startswith(f'{tmp_path}/changed.zarr: ')
        return str(error.value)

    def path(name):
        return lambda ome: ome['multiscales'][0]['datasets'][0].update(path=name)

    for name in ('../other', '/etc', '.', '', 'a/../../b'):
        assert f'the path {name!r} of a resolution leads elsewhere' in message(path(name))
    assert 'KeyError' in message(path('absent'))
    assert 'no image of OME (no multiscales)' in message(lambda ome: ome.pop('multiscales'))
    assert 'is a plate; name one of its images' in message(lambda ome: ome.update(plate={}) or ome.pop('multiscales'))
    assert 'its axes y, x are not those of an array with 3' in message(
        lambda ome: ome['multiscales'][0].update(axes=[dict(name='y'), dict(name='x')])
    )
    assert 'IndexError' in message(lambda ome: ome.update(multiscales=[]))
    assert 'TypeError' in message(lambda ome: ome.update(multiscales=[7]))


def test_stores_without_metadata_are_one_line(store, tmp_path):
    copy = shutil.copytree(store, tmp_path / 'x.zarr')
    metadata(copy)[0].write_text('{')
    with pytest.raises(UserError, match='is not a complete OME-Zarr image'):
        open_image(copy)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='is a folder without a DICOM slide or OME-Zarr'):
        open_image(tmp_path / 'empty')
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as file:
        file.writestr('readme.txt', 'nothing')
    with pytest.raises(UserError, match=r'x\.zip: is a zip file without OME-Zarr in it'):
        open_image(tmp_path / 'x.zip')
    (tmp_path / 'cut.zip').write_bytes((tmp_path / 'x.zip').read_bytes()[:50])
    with pytest.raises(UserError, match=r'cut\.zip: is not a complete OME-Zarr image'):
        open_image(tmp_path / 'cut.zip')


class Program:
    def __reduce__(self):
        return print, ('a program ran',)


@pytest.mark.parametrize(
    ('codec', 'message'), [('pickle', 'pickle'), ('packbits', "is packed by 'packbits', which is not read")]
)
def test_a_codec_that_could_run_a_program_is_refused(codec, message, tmp_path, capsys):
    """Zarr 2 had pickle as a filter."""
    path = write_ome_zarr(tmp_path / 'x.zarr', PLANES, 'cyx', '0.4')
    array = path / metadata(path)[2]['multiscales'][0]['datasets'][0]['path']
    content = json.loads((array / '.zarray').read_text())
    (array / '.zarray').write_text(json.dumps(content | dict(filters=[dict(id=codec)], compressor=None)))
    for chunk in array.rglob('*'):
        if chunk.is_file() and not chunk.name.startswith('.z'):
            chunk.write_bytes(pickle.dumps(Program()))
    with pytest.raises(UserError, match=message):
        whole(open_image(path))
    assert 'a program ran' not in capsys.readouterr().out


def test_chunks_too_large_to_decode_are_refused(store, tmp_path):
    copy = shutil.copytree(store, tmp_path / 'x.zarr')
    array = copy / metadata(copy)[2]['multiscales'][0]['datasets'][0]['path']
    path = array / ('.zarray' if (array / '.zarray').exists() else 'zarr.json')
    content = json.loads(path.read_text())
    if path.name == '.zarray':
        content['chunks'] = [1, 2**15, 2**15]
    else:
        content['chunk_grid']['configuration']['chunk_shape'] = [1, 2**15, 2**15]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match='each of which must be decoded at once; save it in smaller ones'):
        open_image(copy)
