import math
from collections.abc import Iterable

from mmcv import rescale_size
from mmdet.datasets.transforms import Resize


def find_resize(steps: Iterable) -> Resize | None:
    """The first ``Resize`` among the transforms of a pipeline; None without one."""
    return next((step for step in steps if isinstance(step, Resize)), None)


def resized_size(resize: Resize | None, width: int, height: int) -> tuple:
    """The size to which mmdet's ``Resize`` brings an image, by ``scale`` or ``scale_factor``.

    Args:
        resize (Resize | None): The transform; None for a pipeline without one.
        width (int): Of the image in px.
        height (int): Of the image in px.

    Returns:
        tuple: The new (width, height) in px, and px of the result per px of the image, for ``keep_ratio=False`` the
        geometric mean of both sides.
    """
    if resize is None:
        return (width, height), 1.0
    # as mmcv's Resize.transform
    size = resize.scale or tuple(
        int(side * factor + 0.5) for side, factor in zip((width, height), resize.scale_factor, strict=True)
    )
    if resize.keep_ratio:
        return rescale_size((width, height), size, return_scale=True)
    return tuple(size), math.sqrt(size[0] / width * size[1] / height)
