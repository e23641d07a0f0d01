"""Formats of labelled images, a module each, with

- ``recognises(src)``: whether a source looks like it;
- ``find_samples(src, classes)``: its samples and class names, where ``classes`` is None for those of the format.
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
from .sample import Instances, Sample

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

__all__ = ['FORMATS', 'Instances', 'Sample', 'find_format']


def find_format(src: Path, name: str = 'auto') -> ModuleType:
    """The module of a format.

    Args:
        src (Path): The source, a folder or a JSON file.
        name (str): Of :data:`FORMATS`; ``'auto'`` asks each whether it recognises the source.

    Raises:
        UserError: If there is no such source, or none or several recognise it.
    """
    if not src.exists():
        raise UserError(f'{src}: no such folder or file')
    if name != 'auto':
        return FORMATS[name]
    found = [name for name, module in FORMATS.items() if module.recognises(src)]
    if len(found) != 1:
        what = f'looks like {" and ".join(found)}' if found else 'no layout that is known (data/README.md shows them)'
        raise UserError(f'{src}: {what}; say --format')
    return FORMATS[found[0]]
