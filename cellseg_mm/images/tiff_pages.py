import itertools

import tifffile

MAX_PAGES = 1000


def tiff_pages(file: tifffile.TiffFile) -> list:
    """All pages of a TIFF file.

    Raises:
        ValueError: If there are more than :data:`MAX_PAGES`: in a damaged file they may form a circle.
    """
    pages = list(itertools.islice(file.pages, MAX_PAGES + 1))
    if len(pages) > MAX_PAGES:
        raise ValueError(f'more than {MAX_PAGES:,} pages, or pages in a circle')
    return pages
