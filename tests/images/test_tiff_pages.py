import struct

import numpy as np
import pytest
import tifffile

from cellseg_mm.datasets.formats.sample import read_mask
from cellseg_mm.images import open_image, tiff_pages
from cellseg_mm.utils import UserError


@pytest.fixture
def three_pages(tmp_path):
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, np.zeros((3, 8, 9), np.uint8), photometric='minisblack')
    return path


def close_circle(path, target) -> None:
    """Have the last page point back to page ``target``."""
    with tifffile.TiffFile(path) as file:
        offsets, tags = [page.offset for page in file.pages], len(file.pages[2].tags)
    content = bytearray(path.read_bytes())
    place = offsets[2] + 2 + 12 * tags
    assert content[place : place + 4] == bytes(4)
    content[place : place + 4] = struct.pack('<I', offsets[target])
    path.write_bytes(content)


def test_all_pages(three_pages):
    with tifffile.TiffFile(three_pages) as file:
        assert [page.index for page in tiff_pages(file)] == [0, 1, 2]


@pytest.mark.parametrize('target', [0, 1, 2])
def test_pages_in_a_circle_end(three_pages, target):
    """As an image and as a mask: tifffile itself goes round for ever."""
    close_circle(three_pages, target)
    with pytest.raises(
        UserError, match=r'a\.tif: is not a complete TIFF \(more than 1,000 pages, or pages in a circle\)'
    ):
        open_image(three_pages)
    with pytest.raises(UserError, match=r'a\.tif: not readable as a mask'):
        read_mask(three_pages, (8, 9))
