"""Formats of labelled images, one module each, with

- ``recognises(src)``: whether a source looks like this format;
- ``find_samples(src, classes)``: its samples and class names; with ``classes`` None, the names of the format.
"""

from pathlib import Path
from types import ModuleType

from cellseg_mm.utils import UserError

from . import (
    asap,
    cellpose,
    coco,
    conic,
    dsb2018,
    geojson,
    hovernet,
    lizard,
    monusac,
    monuseg,
    nuinsseg,
    pannuke,
    task,
    tnbc,
)
from .sample import Instances, Sample, visible, walk_folders

FORMATS = dict(
    task=task,
    monusac=monusac,
    hovernet=hovernet,
    cellpose=cellpose,
    coco=coco,
    geojson=geojson,
    asap=asap,
    pannuke=pannuke,
    conic=conic,
    lizard=lizard,
    monuseg=monuseg,
    nuinsseg=nuinsseg,
    dsb2018=dsb2018,
    tnbc=tnbc,
)

# Files of other programs: the ending of their names, and bytes that all occur in them.
FOREIGN = {
    'LabelMe': ('.json', (b'"shapes"', b'"imagePath"')),
    'VGG Image Annotator': ('.json', (b'"region_attributes"',)),
    'Supervisely': ('.json', (b'"classTitle"',)),
    "Label Studio's own JSON": ('.json', (b'"original_width"',)),
    "HoVer-Net's JSON": ('.json', (b'"contour"', b'"centroid"')),
    'results of COCO': ('.json', (b'"image_id"', b'"segmentation"')),
    "Cellpose's _seg.npy": ('_seg.npy', ()),
    'outlines of Cellpose': ('_outlines.txt', ()),
    'shapes of napari': ('.csv', (b'shape-type', b'vertex-index')),
    'regions of ImageJ': ('.roi', ()),
    'sets of regions of ImageJ': ('roiset.zip', ()),
    'HDF5, as of ilastik': ('.h5', ()),
}
FOREIGN_FOLDERS = {'YOLO': 'labels', 'Pascal VOC': 'segmentationobject'}
FOREIGN_DEPTH = 2  # folders below the source
CONVERT = 'export or convert it to COCO or another format of data/README.md'

__all__ = ['FORMATS', 'Instances', 'Sample', 'find_format']


def find_format(src: Path, name: str = 'auto') -> ModuleType:
    """The module of a format.

    Args:
        src (Path): The source, a folder or a JSON file.
        name (str): A key of :data:`FORMATS`, or ``'auto'`` for the one that recognises the source.

    Raises:
        UserError: If the source is missing, or not exactly one format recognises it.
    """
    if not src.exists():
        raise UserError(f'{src}: no such folder or file')
    if name != 'auto':
        return FORMATS[name]
    found = [name for name, module in FORMATS.items() if module.recognises(src)]
    if len(found) != 1:
        what = f'looks like {" and ".join(found)}; choose one with --format' if found else _not_known(src)
        raise UserError(f'{src}: {what}')
    return FORMATS[found[0]]


def _not_known(src: Path) -> str:
    """What an unknown source may be, and what to do."""
    folders = walk_folders(src, FOREIGN_DEPTH)
    for path in (path for folder in folders for path in visible(folder) if path.is_file()):
        for name, (ending, marks) in FOREIGN.items():
            if path.name.lower().endswith(ending) and all(mark in path.read_bytes() for mark in marks):
                return f'has {path.name}, {name}, which cannot be read; {CONVERT}'
    for folder in folders:
        for name, own in FOREIGN_FOLDERS.items():
            if folder.name.lower() == own or folder.parent.name.lower() == own:
                return f'has a folder {folder.name}, as {name} does, which cannot be read; {CONVERT}'
    return 'unknown format; arrange the files as one of those in data/README.md, or choose one with --format'
