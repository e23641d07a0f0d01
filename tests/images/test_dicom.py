"""DICOM slides that wsidicomizer wrote, as openslide and as wsidicom read them."""

import shutil

import numpy as np
import pytest
from conftest import whole
from written_slides import write_dicom

from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.images import OpenSlideSource, ResampledSource, is_slide_folder, open_image
from cellseg_mm.utils import UserError

RGB = draw_tissue(np.random.default_rng(5), 512, 1024)[0]


@pytest.fixture(scope='module')
def slide(tmp_path_factory):
    """A folder of three levels, 0.25 um a px."""
    return write_dicom(tmp_path_factory.mktemp('dicom') / '1.2.3', RGB, 0.25, add_levels=True)


def test_a_folder_is_one_slide(slide):
    source = open_image(slide)
    assert isinstance(source, OpenSlideSource) and source.name == '1.2.3' and is_slide_folder(slide)
    assert (source.width, source.height, source.pixel_size) == (1024, 512, 0.25)
    found = whole(source)
    assert np.abs(found.astype(int) - RGB).mean() < 4  # of JPEG, twice
    assert np.array_equal(source.read(250, 220, 300, 280), found[220:500, 250:550])
    (path, *_) = slide.glob('*.dcm')
    assert np.array_equal(whole(open_image(path)), found)  # any of its files
    assert np.array_equal(whole(open_image(slide, 'bgr')), found[..., ::-1])


def test_the_pixels_and_levels_are_those_of_wsidicom(slide):
    wsidicom = pytest.importorskip('wsidicom')
    source = open_image(slide)
    with wsidicom.WsiDicom.open(slide) as other:
        assert (other.size.width, other.size.height) == (source.width, source.height)
        assert other.mpp.width == pytest.approx(source.pixel_size)
        expected = np.array(other.read_region((250, 220), 0, (300, 280)))
        half = np.array(other.read_region((100, 60), 1, (200, 180)))
    assert np.abs(source.read(250, 220, 300, 280).astype(int) - expected).max() <= 4  # two decoders of JPEG
    assert source.levels[0].downsample == (2, 2)
    assert np.abs(source.levels[0].read(100, 60, 200, 180).astype(int) - half).max() <= 4
    shown = ResampledSource(source, 0.5)
    assert shown.level == 1 and np.abs(whole(shown)[60:240, 100:300].astype(int) - half).max() <= 4


def test_a_level_that_cannot_be_read_is_left_out(tmp_path):
    """wsidicomizer cuts the last tiles of the levels that it adds, and openslide wants whole ones."""
    image = np.tile(RGB, (2, 1, 1))[:600, :900]
    source = open_image(write_dicom(tmp_path / 'x', image, 0.25, add_levels=True))
    assert [level.downsample for level in source.levels] == [(4, 4)]
    assert np.abs(whole(source).astype(int) - image).mean() < 4


def test_files_of_two_slides_and_broken_ones_are_one_line(slide, tmp_path):
    both = shutil.copytree(slide, tmp_path / 'both')
    for path in write_dicom(tmp_path / 'other', RGB, 0.25).iterdir():
        shutil.copy(path, both)
    with pytest.raises(UserError, match='both: DICOM files of 2 slides; put those of each into a folder of its own'):
        open_image(both)
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken/x.dcm').write_bytes(b'nothing')
    with pytest.raises(UserError, match=r'broken/x\.dcm: openslide cannot read it') as error:
        open_image(tmp_path / 'broken')
    assert '\n' not in str(error.value)
    cut = shutil.copytree(slide, tmp_path / 'cut')
    largest = max(cut.iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises(UserError, match=r'openslide cannot read it|cannot be decoded'):
        whole(open_image(cut))
