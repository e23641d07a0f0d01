"""The layouts of Cellpose and StarDist: an id map for each image, with cells of one class.

::

    SRC/NAME.tif or NAME_img.tif, NAME_masks.tif      # or .png; also in SRC/train, SRC/val and SRC/test
    SRC/NAME.tif, NAME_cp_masks.png                   # as Cellpose itself writes it
    SRC/images/NAME.tif, SRC/masks/NAME.tif           # also in the splits

A map has one channel of whole numbers, of any dtype: 0 is background. Images of ``test`` may come without a map. Other
files that Cellpose writes beside an image, such as ``NAME_flows.tif``, are skipped.
"""

from pathlib import Path

from cellseg_mm.structures import relabel

from .sample import (
    IMAGE_SUFFIXES,
    Instances,
    Sample,
    by_stem,
    class_in_ids_notes,
    images_by_stem,
    one_class,
    pair_labels,
    read_mask,
    split_folders,
    subfolder,
    visible,
)

ENDINGS = ('_cp_masks', '_masks')
FOLDERS = ('images', 'masks')
# Endings of what else Cellpose writes beside an image: cellpose/io.py (save_masks, save_rgb, _save_flows).
BY_PRODUCTS = ('_flows', '_flows_cp', '_cp_flows', '_dp', '_dp_cp', '_cp_output', '_outlines', '_cp_outlines', '_seg')


def recognises(src: Path) -> bool:
    """Whether a folder looks like it."""
    return any(_maps_beside(folder) or _has_folders(folder) for _, folder in split_folders(src))


def find_samples(src: Path, classes: tuple | None) -> tuple:
    """All images of a source folder, and the name of the class.

    Raises:
        UserError: See :func:`by_stem`, :func:`pair_labels` and :func:`one_class`.
    """
    classes = one_class(classes, 'an id map')
    splits = split_folders(src)
    has_folders = any(_has_folders(folder) for _, folder in splits)
    samples = []
    for split, folder in splits:
        stems = {path.stem.lower() for path in visible(folder, *IMAGE_SUFFIXES)}
        others = [path for path in images_by_stem(folder).values() if not _is_map(path)]
        images = by_stem((path for path in others if not _is_by_product(path, stems)), '_img')
        pairs = pair_labels(images, by_stem(_maps_beside(folder), *ENDINGS), split)
        if has_folders:
            pairs += pair_labels(*(images_by_stem(subfolder(folder, name)) for name in FOLDERS), split)
        samples += [CellposeSample(*pair, classes) for pair in pairs]
    return samples, classes


def _is_map(path: Path) -> bool:
    return path.stem.lower().endswith(ENDINGS)


def _is_by_product(path: Path, stems: set) -> bool:
    """Whether the name is that of a by-product, and its image is there too."""
    stem = path.stem.lower()
    return any(stem.endswith(ending) and stem.removesuffix(ending) in stems for ending in BY_PRODUCTS)


def _maps_beside(folder: Path) -> list:
    return [path for path in visible(folder, *IMAGE_SUFFIXES) if _is_map(path)]


def _has_folders(folder: Path) -> bool:
    return all(visible(subfolder(folder, name), *IMAGE_SUFFIXES) for name in FOLDERS)


class CellposeSample(Sample):
    """``source`` is the id map's file."""

    def read_instances(self, shape: tuple) -> Instances:
        """See :meth:`Sample.read_instances`; the instances are in the order of their ids."""
        mask = read_mask(self.source, shape)
        return Instances.of_one_class(*relabel(mask), class_in_ids_notes(mask))
