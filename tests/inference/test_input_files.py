from pathlib import Path

import pytest

from cellseg_mm.inference.input_files import find_images, output_names
from cellseg_mm.utils import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ('b.png', 'A.TIF', 'notes.txt', '.hidden.png', 'deep/c.jpg', 'deep/d.png', 'empty/x.txt', 'odd[1].png'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def test_folders_patterns_and_files_in_their_order_none_twice(folder):
    def found(*inputs):
        return [str(path.relative_to(folder)) for path in find_images([f'{folder}/{text}' for text in inputs])]

    assert found('') == ['A.TIF', 'b.png', 'odd[1].png']
    assert found('deep', 'b.png') == ['deep/c.jpg', 'deep/d.png', 'b.png']
    assert found('**/*.png') == ['b.png', 'deep/d.png', 'odd[1].png']
    assert found('*.txt', 'absent.png') == ['notes.txt', 'absent.png']  # what is named is tried, and said if it fails
    assert found('odd[1].png') == ['odd[1].png']  # a file of that name before a pattern
    assert found('b.png', 'deep/../b.png', '*.png') == ['b.png', 'odd[1].png']


def test_id_maps_beside_images_are_passed_over_in_folders(tmp_path):
    for name in ('a.png', 'a_masks.tif', 'b_masks.png', 'c_masks_masks.png', 'c_masks.png'):
        (tmp_path / name).touch()
    assert [path.name for path in find_images([tmp_path])] == ['a.png', 'b_masks.png', 'c_masks.png']
    assert len(find_images([f'{tmp_path}/*.*'])) == 5


@pytest.mark.parametrize(('text', 'message'), [('empty', 'no image in this folder'), ('*.svs', 'no file matches')])
def test_an_input_without_an_image_is_named(folder, text, message):
    with pytest.raises(UserError, match=message):
        find_images([str(folder / text)])


def test_no_two_files_write_to_the_same_names():
    def names(*paths):
        return output_names([Path(path) for path in paths])

    assert names('/x/a.png', '/x/b.png') == ['a', 'b']
    assert names('/x/a.png', '/y/a.png', '/y/b.png') == ['x_a', 'y_a', 'b']
    assert names('/x/a.png', '/x/a.tif') == ['x_a_png', 'x_a_tif']
    assert names('/x/a.png', '/x/A.png') == ['x_a_png', 'x_A_png_2']  # one name where upper and lower case are the same
    assert names('/x/y/a.png', '/z/y/a.png', '/z/y/a.tif') == ['y_a_png', 'y_a_png_2', 'y_a_tif']
    assert names('/x/summary.png') == ['x_summary']  # that of all files together
    # a name made of folder and stem may be another file's stem
    assert names('/x/a.png', '/y/a.png', '/z/x_a.png') == ['x_a_png', 'y_a', 'z_x_a_png']


def test_folders_of_ome_zarr_and_dicom_are_images(tmp_path):
    for name in (
        'a.zarr/zarr.json',
        'a.zarr/0/zarr.json',
        'b.ome.zarr/.zattrs',
        'b.ome.zarr/0/.zarray',
        '1.2.840.5/x.dcm',
        '1.2.840.5/y.DCM',
        'c.zarr.zip',
        'other.zip',
        'd.png',
        'deep/e.zarr/.zgroup',
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(*inputs):
        return [str(path.relative_to(tmp_path)) for path in find_images([f'{tmp_path}/{text}' for text in inputs])]

    images = ['1.2.840.5', 'a.zarr', 'b.ome.zarr', 'c.zarr.zip', 'd.png']
    assert found('') == images
    assert found('a.zarr', '1.2.840.5') == ['a.zarr', '1.2.840.5']
    assert found('1.2.840.5/x.dcm', '1.2.840.5/*', '1.2.840.5') == ['1.2.840.5']
    assert found('**/*.zarr') == ['a.zarr', 'b.ome.zarr', 'deep/e.zarr']
    (tmp_path / '1.2.840.5/label.png').touch()
    assert found('1.2.840.5') == ['1.2.840.5', '1.2.840.5/label.png']
    names = output_names([tmp_path / image for image in images])
    assert names == ['1.2.840.5', 'a', 'b.ome', 'c', 'd']
