"""The layout of HoVer-Net, used by CoNSeP, Kumar and CPM.

::

    SRC/Train/Images/NAME.png, SRC/Train/Labels/NAME.mat      # and SRC/Test/...; or SRC/Images, SRC/Labels

A MAT file holds the id map ``inst_map`` (H, W) and the types, numbers from 1: of each instance in the order of rising
ids as ``inst_type``; or of each pixel as ``type_map``; or of each instance as ``class``, in the order of ``id``, which
need not rise (Lizard). Without any of these there is one class, and another variable that looks like a type is an
error.

Types have no names in the files: ``--classes`` names them in order. Several types with one name become one class. The
HoVer-Net paper makes four classes of CoNSeP's seven types with

    --classes miscellaneous inflammatory epithelial epithelial spindle-shaped spindle-shaped spindle-shaped
"""

import math
import re
from pathlib import Path

import numpy as np
import scipy.io

from cellseg_mm.structures import relabel
from cellseg_mm.utils import UserError

from .sample import (
    Instances,
    Sample,
    by_stem,
    check_ids,
    find_pairs,
    images_by_stem,
    split_folders,
    subfolder,
    visible,
)

TYPE_VARIABLES = ('inst_type', 'type_map', 'class')


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    return any(visible(subfolder(folder, 'Labels'), '.mat') for _, folder in split_folders(src))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of a source folder, and the names of the merged classes.

    Raises:
        UserError: See :func:`by_stem` and :func:`pair_labels`; or if types need names.
    """
    pairs = find_pairs(src, _places)
    if classes is None:
        typed = [path for *_, path in pairs if path and set(TYPE_VARIABLES) & _shapes(path).keys()]
        if typed:
            raise UserError(
                f'{typed[0]}: types are numbers here; name them in order with --classes, for CoNSeP: miscellaneous '
                'inflammatory epithelial epithelial spindle-shaped spindle-shaped spindle-shaped; for Lizard: '
                'neutrophil epithelial lymphocyte plasma eosinophil connective'
            )
        classes = ('cell',)
    return [HoverNetSample(*pair, classes) for pair in pairs], tuple(dict.fromkeys(classes))


def _places(folder: Path) -> list:
    """Images and MAT files by name, in the only place of a split's folder."""
    return [(images_by_stem(subfolder(folder, 'Images')), by_stem(visible(subfolder(folder, 'Labels'), '.mat')))]


def _shapes(path: Path) -> dict:
    """Shape of each variable of a MAT file, from its header."""
    try:
        return {name: shape for name, shape, _ in scipy.io.whosmat(str(path))}
    except Exception as error:  # damaged files raise many kinds of errors
        raise UserError(f'{path}: is not a MAT file up to version 7 ({error})') from error


class HoverNetSample(Sample):
    """``source`` is the MAT file; ``classes`` has a name for each type, and names may repeat."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the order of their ids."""
        path, shapes = self.source, _shapes(self.source)
        if shapes.get('inst_map') != shape:
            raise UserError(
                f'{path}: inst_map is {shapes.get("inst_map", "missing")}, the image {shape} (height, width)'
            )
        # before anything of that size is read
        large = [name for name in (*TYPE_VARIABLES, 'id') if math.prod(shapes.get(name, ())) > math.prod(shape)]
        if large:
            raise UserError(f'{path}: {large[0]} is {shapes[large[0]]}, the image {shape} (height, width)')
        try:
            content = scipy.io.loadmat(str(path), variable_names=['inst_map', 'id', *TYPE_VARIABLES])
        except Exception as error:  # damaged files raise many kinds of errors
            raise UserError(f'{path}: is damaged or cut off ({error})') from error
        id_map, count = relabel(check_ids(content['inst_map'], shape, path))
        types = self._types(content, id_map, count)
        wrong = types[(types < 1) | (types > len(self.classes)) | (types != np.floor(types))]
        if len(wrong):
            raise UserError(f'{path}: type {wrong[0]:g}, but {len(self.classes)} are named; see --classes')
        merged = list(dict.fromkeys(self.classes))
        number_of_type = np.array([0, *(merged.index(name) + 1 for name in self.classes)])
        return Instances(id_map[None], number_of_type[types.astype(np.int64)], np.zeros(len(types), bool))

    def _types(self, content: dict, id_map: np.ndarray, count: int) -> np.ndarray:
        """(N,) types; 0 for an instance without one."""
        if 'inst_type' in content:
            types = content['inst_type'].ravel()
            if types.dtype.kind not in 'iuf':
                raise UserError(f'{self.source}: inst_type must hold numbers, found {types.dtype}')
            if len(types) != count:
                raise UserError(f'{self.source}: {len(types)} in inst_type, but {count} instances in inst_map')
            return types
        if 'class' in content:
            return types_by_id(content, self.source)
        if 'type_map' not in content:
            others = [name for name in _shapes(self.source) if re.search('class|type|label|categor', name.lower())]
            if others or (count and len(set(self.classes)) > 1):
                found = f'{", ".join(others)}, but ' if others else ''
                raise UserError(
                    f'{self.source}: has {found}no inst_type and no type_map, which hold the types in HoVer-Net '
                    'files; without any of these, all cells are one class'
                )
            return np.ones(count)
        type_map = check_type_map(content['type_map'], id_map.shape, len(self.classes), self.source)
        return types_by_vote(id_map, type_map, count, len(self.classes))


def types_by_id(content: dict, path: Path) -> np.ndarray:
    """(N,) types of the instances of ``inst_map`` by rising id, from ``class`` in the order of ``id``.

    Ids that are not in the map are skipped.

    Raises:
        UserError: If the two are not lists of numbers of equal length, or an instance of the map does not occur once.
    """
    if 'id' not in content:
        raise UserError(f'{path}: class lists types, but id is missing, which says of which instances')
    ids, types = content['id'].ravel(), content['class'].ravel()
    for name, values in (('id', ids), ('class', types)):
        if values.dtype.kind not in 'iuf':
            raise UserError(f'{path}: {name} must hold numbers, found {values.dtype}')
    if len(ids) != len(types):
        raise UserError(f'{path}: {len(types)} in class, but {len(ids)} in id')
    present = np.unique(content['inst_map'])
    present = present[present > 0]
    first, last = (np.searchsorted(np.sort(ids), present, side) for side in ('left', 'right'))
    wrong = np.flatnonzero(last - first != 1)
    if len(wrong):
        times = (last - first)[wrong[0]]
        raise UserError(f'{path}: instance {present[wrong[0]]:.0f} of inst_map is {times} times in id, not once')
    return types[np.argsort(ids)[first]]


def types_by_vote(id_map: np.ndarray, type_map: np.ndarray, count: int, num_types: int) -> np.ndarray:
    """The most common type except 0 of each instance's pixels, the lowest of equally common ones; 0 without any.

    Args:
        id_map (ndarray): (H, W) of ids 0..N.
        type_map (ndarray): (H, W) int64 types 0..T.
        count (int): N.
        num_types (int): T.

    Returns:
        ndarray: (N,) int64.
    """
    votes = np.bincount((id_map * (num_types + 1) + type_map).ravel(), minlength=(count + 1) * (num_types + 1))
    votes = votes.reshape(count + 1, -1)[1:, 1:]
    return np.where(votes.any(axis=1), votes.argmax(axis=1) + 1, 0)


def check_type_map(type_map: np.ndarray, shape: tuple, num_types: int, path: Path) -> np.ndarray:
    """A map of types as (H, W) int64.

    Raises:
        UserError: If it is of another size, or holds anything but 0 to ``num_types``.
    """
    if type_map.shape != shape or type_map.dtype.kind not in 'iuf':
        raise UserError(f'{path}: type_map is {type_map.shape} {type_map.dtype}, the image {shape} (height, width)')
    present = np.unique(type_map)
    if not np.isin(present, np.arange(num_types + 1)).all():
        raise UserError(f'{path}: type_map holds {present[-1]:g}, but {num_types} types are named; see --classes')
    return type_map.astype(np.int64)
