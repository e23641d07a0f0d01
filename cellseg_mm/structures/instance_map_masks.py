from collections.abc import Iterator, Sequence

import cv2
import mmcv
import numpy as np
import torch
from mmdet.structures.bbox import BaseBoxes, get_box_type
from mmdet.structures.mask import BaseInstanceMasks, BitmapMasks

from .instance_map import instance_extents
from .mask_target import instance_roi_align, instance_roi_align_on_device


class InstanceMapMasks(BaseInstanceMasks):
    """Masks of one image as a stack of integer id layers, in place of one bitmap for each instance.

    One layer holds all instances that do not overlap. Overlapping ones lie in further layers, so nothing is lost. A
    flip or a warp costs one pass over the map, whatever the number of instances. Objects never change in place:
    indexing and copying share the layers, and each operation makes new ones.

    It differs from :class:`mmdet.structures.mask.BitmapMasks` in three ways. All resampling is nearest-neighbour:
    ``interpolation`` is accepted and ignored, because ids cannot be blended. :meth:`resize` keeps pixel centres in
    place, as image resizing does; BitmapMasks samples the pixel's corner. ``masks`` is missing: the few transforms
    that write into that array (CopyPaste, RandomErasing, Albu) need :meth:`to_bitmap` first.

    Args:
        layers (ndarray): (L, H, W) integers, 0 is background; each instance lies in one layer.
        ids (Sequence[int] | None): The N ids of the instances, in the order of their labels; 1..max if None.
        areas (Sequence[int] | None): Their areas if known; otherwise they are counted on demand.
    """

    def __init__(self, layers: np.ndarray, ids: Sequence | None = None, areas: Sequence | None = None) -> None:
        if layers.ndim != 3 or layers.dtype.kind not in 'iu':
            raise ValueError(f'layers must be (L, H, W) integers, not {layers.shape} {layers.dtype}')
        self.layers = layers
        self.ids = (
            np.arange(1, int(layers.max(initial=0)) + 1) if ids is None else np.asarray(ids, np.int64).reshape(-1)
        )
        self.height, self.width = layers.shape[1:]
        self._areas = None if areas is None else np.asarray(areas, np.int64).reshape(-1)
        self._boxes = None

    @property
    def masks(self) -> np.ndarray:
        """Missing, see the class.

        Raises:
            TypeError: Always.
        """
        raise TypeError('InstanceMapMasks holds no bitmaps; use to_bitmap() or to_ndarray()')

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_masks={len(self)}, height={self.height}, width={self.width})'

    def __getitem__(self, index: object) -> 'InstanceMapMasks':
        """Some of the instances, by any index of an array; the layers are shared."""
        if isinstance(index, torch.Tensor):
            index = index.cpu().numpy()
        if isinstance(index, list) and not index:
            index = slice(0)
        part = InstanceMapMasks(self.layers, self.ids[index])
        part._areas = None if self._areas is None else self._areas[index].reshape(-1)
        part._boxes = None if self._boxes is None else self._boxes[index].reshape(-1, 4)
        return part

    def __iter__(self) -> Iterator:
        """The bitmaps in turn, (H, W) uint8."""
        return (self._bitmap(number) for number in self.ids)

    def __deepcopy__(self, memo: dict) -> 'InstanceMapMasks':
        # mmdet copies its data samples in each training step; nothing here changes in place, so the layers are shared
        return self[:]

    def _bitmap(self, number: int) -> np.ndarray:
        return (self.layers == number).any(axis=0).astype(np.uint8)

    def _map(self, function: object, *args, **kwargs) -> 'InstanceMapMasks':
        """The same instances, each layer put through ``function(layer, ...)``."""
        layers = [function(np.ascontiguousarray(layer), *args, **kwargs) for layer in self.layers]
        return InstanceMapMasks(np.stack(layers), self.ids)

    def warp(self, matrix: np.ndarray, out_shape: tuple) -> 'InstanceMapMasks':
        """Nearest-neighbour affine warp.

        Args:
            matrix (ndarray): (2, 3), from pixel indices of this map to those of the result, as in ``cv2.warpAffine``.
            out_shape (tuple): (H, W) of the result; pixels from outside are background.
        """
        return self._map(cv2.warpAffine, matrix, out_shape[::-1], flags=cv2.INTER_NEAREST)

    def rescale(self, scale: object, interpolation: str = 'nearest') -> 'InstanceMapMasks':
        """As large as fits into ``scale`` (see ``mmcv.rescale_size``); the aspect ratio stays."""
        width, height = mmcv.rescale_size((self.width, self.height), scale)
        return self.resize((height, width))

    def resize(self, out_shape: tuple, interpolation: str = 'nearest') -> 'InstanceMapMasks':
        """To (H, W), nearest-neighbour about pixel centres."""
        return self._map(cv2.resize, out_shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    def flip(self, flip_direction: str = 'horizontal') -> 'InstanceMapMasks':
        """``'horizontal'``, ``'vertical'`` or ``'diagonal'`` (both)."""
        axes = {'horizontal': 2, 'vertical': 1, 'diagonal': (1, 2)}[flip_direction]
        return InstanceMapMasks(np.flip(self.layers, axes), self.ids, self._areas)

    def pad(self, out_shape: tuple, pad_val: int = 0) -> 'InstanceMapMasks':
        """With background at the right and at the bottom, to (H, W)."""
        _require_background(pad_val)
        height, width = out_shape
        return self._canvas((max(height, self.height), max(width, self.width)), 0, 0)

    def expand(self, expanded_h: int, expanded_w: int, top: int, left: int) -> 'InstanceMapMasks':
        """Onto a canvas of (expanded_h, expanded_w), its upper left corner at (top, left)."""
        return self._canvas((expanded_h, expanded_w), top, left)

    def _canvas(self, shape: tuple, top: int, left: int) -> 'InstanceMapMasks':
        if shape == (self.height, self.width):
            return self
        layers = np.zeros((len(self.layers), *shape), self.layers.dtype)
        layers[:, top : top + self.height, left : left + self.width] = self.layers
        return InstanceMapMasks(layers, self.ids)

    def crop(self, bbox: np.ndarray) -> 'InstanceMapMasks':
        """To a box [x1, y1, x2, y2) of integers, clipped to the map, at least one pixel large."""
        x1, x2 = np.clip(bbox[[0, 2]], 0, self.width)
        y1, y2 = np.clip(bbox[[1, 3]], 0, self.height)
        return InstanceMapMasks(self.layers[:, y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)], self.ids)

    def translate(
        self,
        out_shape: tuple,
        offset: float | tuple,
        direction: str = 'horizontal',
        border_value: int = 0,
        interpolation: str = 'nearest',
    ) -> 'InstanceMapMasks':
        """By ``offset`` px to the right (``'horizontal'``), down (``'vertical'``) or both, into (H, W)."""
        _require_background(border_value)
        x, y = {'horizontal': (offset, 0), 'vertical': (0, offset), 'both': np.broadcast_to(offset, 2)}[direction]
        height, width = min(out_shape[0], self.height), min(out_shape[1], self.width)
        inside = InstanceMapMasks(self.layers[:, :height, :width], self.ids)
        return inside.warp(np.float32([[1, 0, x], [0, 1, y]]), tuple(out_shape))

    def shear(
        self,
        out_shape: tuple,
        magnitude: float,
        direction: str = 'horizontal',
        border_value: int = 0,
        interpolation: str = 'nearest',
    ) -> 'InstanceMapMasks':
        """See ``mmcv.imshear``. The size stays; ``out_shape`` is ignored, as in BitmapMasks."""
        _require_background(border_value)
        x, y = (magnitude, 0) if direction == 'horizontal' else (0, magnitude)
        return self.warp(np.float32([[1, x, 0], [y, 1, 0]]), (self.height, self.width))

    def rotate(
        self,
        out_shape: tuple,
        angle: float,
        center: tuple | None = None,
        scale: float = 1.0,
        border_value: int = 0,
        interpolation: str = 'nearest',
    ) -> 'InstanceMapMasks':
        """See ``mmcv.imrotate``: clockwise by degrees. The size stays; ``out_shape`` is ignored, as in BitmapMasks."""
        _require_background(border_value)
        center = center or ((self.width - 1) * 0.5, (self.height - 1) * 0.5)
        return self.warp(cv2.getRotationMatrix2D(center, -angle, scale), (self.height, self.width))

    def crop_and_resize(
        self,
        bboxes: np.ndarray | torch.Tensor,
        out_shape: tuple,
        inds: np.ndarray | torch.Tensor,
        device: str = 'cpu',
        interpolation: str = 'bilinear',
        binarize: bool = True,
    ) -> BitmapMasks:
        """Mask targets: for each box, its instance's mask in the box, resampled by RoIAlign.

        The values equal those of BitmapMasks on the same device, which makes a full-size float mask for each box. Here
        memory grows with the targets on the CPU, see :func:`instance_roi_align`, and with a few masks elsewhere.

        Args:
            bboxes (ndarray | Tensor): (K, 4) float [x1, y1, x2, y2].
            out_shape (tuple): (h, w) of a target.
            inds (ndarray | Tensor): (K,) which instance each box belongs to.
            device (str): Where to compute; the targets are on the CPU.
            interpolation (str): Ignored, as in BitmapMasks.
            binarize (bool): Whether to round to 0 and 1 at 0.5.

        Returns:
            BitmapMasks: (K, h, w) bool, or float32 if not binarised.
        """
        boxes = torch.as_tensor(bboxes, dtype=torch.float32).cpu().numpy()
        ids = self.ids[torch.as_tensor(inds).cpu().numpy()]
        arguments = (self.layers, self._layer_of(ids), ids, boxes, out_shape)
        on_cpu = torch.device(device).type == 'cpu'
        targets = instance_roi_align(*arguments) if on_cpu else instance_roi_align_on_device(*arguments, device)
        return BitmapMasks(targets >= 0.5 if binarize else targets, *out_shape)

    def _layer_of(self, ids: np.ndarray) -> np.ndarray:
        """(K,) layer of each id; 0 for an id that is not in the map."""
        result = np.zeros(len(ids), np.int64)
        for index in range(1, len(self.layers)):
            result[np.isin(ids, self.layers[index])] = index
        return result

    def _measure(self) -> None:
        """Find areas and boxes. Both come from one pass, and are kept, since the layers never change."""
        extents = [instance_extents(layer, self.ids) for layer in self.layers]
        self._boxes, self._areas = (sum(parts) for parts in zip(*extents, strict=True))

    @property
    def areas(self) -> np.ndarray:
        """(N,) int64, in px."""
        if self._areas is None:
            self._measure()
        return self._areas

    def get_bboxes(self, dst_type: str | type = 'hbox') -> BaseBoxes:
        """Tight boxes (N, 4), half-open, zeros for an instance without a pixel, in mmdet's class ``dst_type``."""
        if self._boxes is None:
            self._measure()
        return get_box_type(dst_type)[1](torch.from_numpy(self._boxes).float())

    def to_ndarray(self) -> np.ndarray:
        """Bitmaps, (N, H, W) uint8."""
        return np.stack([*self, np.zeros((self.height, self.width), np.uint8)])[:-1]

    def to_bitmap(self) -> BitmapMasks:
        """As mmdet's bitmaps."""
        return BitmapMasks(self.to_ndarray(), self.height, self.width)

    def to_tensor(self, dtype: torch.dtype, device: str | torch.device) -> torch.Tensor:
        """Bitmaps, (N, H, W)."""
        return torch.as_tensor(self.to_ndarray(), dtype=dtype, device=device)

    @classmethod
    def cat(cls, masks: Sequence) -> 'InstanceMapMasks':
        """The instances of several objects in turn. Objects that share their layers still share them afterwards.

        Raises:
            ValueError: For no masks, or maps of several sizes.
        """
        if not masks or any((mask.height, mask.width) != (masks[0].height, masks[0].width) for mask in masks):
            raise ValueError('cat needs masks, all of one size')
        if all(mask.layers is masks[0].layers for mask in masks):
            return cls(masks[0].layers, np.concatenate([mask.ids for mask in masks]))
        # ids of each object move up by the highest id before them, which keeps them apart
        layers, ids, offset = [], [], 0
        for mask in masks:
            moved = mask.layers.astype(np.int32)
            layers.append(np.where(moved > 0, moved + np.int32(offset), 0))
            ids.append(mask.ids + offset)
            offset += max(int(mask.layers.max(initial=0)), int(mask.ids.max(initial=0)))
        return cls(np.concatenate(layers), np.concatenate(ids))


def _require_background(value: object) -> None:
    if np.any(np.asarray(value) != 0):
        raise ValueError(f'id maps can only be padded with background, 0, not {value}')
