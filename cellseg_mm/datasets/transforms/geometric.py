"""The geometric augmentations of the course report, and windows to train on.

Rotation, zoom, resized crop and window each only compute a matrix. :class:`ApplyAffine` then warps image and masks
once, so the image is interpolated once and the cost does not grow with the number of transforms.

Matrices are (3, 3) float64 and act on continuous coordinates (x, y, 1), in which the centre of the upper left pixel is
(0.5, 0.5) and the image spans (0, 0) to (width, height). Image and masks use the same.
"""

from abc import abstractmethod

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS

from cellseg_mm.structures import InstanceMapMasks

from .base import RandomTransform


def rotation_matrix(angle: float, height: int, width: int) -> np.ndarray:
    """Counter-clockwise by ``angle`` degrees, as seen on screen, around the image's centre."""
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    x, y = width / 2, height / 2
    return np.array([[cos, sin, x - cos * x - sin * y], [-sin, cos, y + sin * x - cos * y], [0, 0, 1]])


def quarter_turn_matrix(turns: int, height: int, width: int) -> np.ndarray:
    """Counter-clockwise by ``turns`` times 90 degrees; odd turns give an image of (width, height).

    One turn takes the upper right corner (width, 0) to the upper left one (0, 0): (x, y) goes to (y, width - x).
    """
    matrix = np.eye(3)
    for turn in range(turns):
        side = height if turn % 2 else width
        matrix = np.array([[0, 1, 0], [-1, 0, side], [0, 0, 1]]) @ matrix
    return matrix


def zoom_matrix(scale: float, height: int, width: int) -> np.ndarray:
    """Enlarged ``scale`` times about the image's centre."""
    return np.array([[scale, 0, (1 - scale) * width / 2], [0, scale, (1 - scale) * height / 2], [0, 0, 1]])


def crop_matrix(left: float, top: float, crop_height: float, crop_width: float, height: int, width: int) -> np.ndarray:
    """The box at (left, top) stretched to the whole image."""
    x, y = width / crop_width, height / crop_height
    return np.array([[x, 0, -x * left], [0, y, -y * top], [0, 0, 1]])


def to_pixel_indices(matrix: np.ndarray) -> np.ndarray:
    """The (2, 3) matrix for ``cv2.warpAffine``, where pixel centres have whole coordinates."""
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return (np.linalg.inv(shift) @ matrix @ shift)[:2]


def pending_shape(results: dict) -> tuple:
    """(H, W) of the image after the matrices that wait for :class:`ApplyAffine`."""
    return results.get('affine_shape', results['img_shape'])


class RandomAffineStep(RandomTransform):
    """Put a random matrix after those that wait for :class:`ApplyAffine`."""

    @abstractmethod
    def draw_matrix(self, height: int, width: int) -> np.ndarray:
        """A (3, 3) matrix with random parameters, for an image of (height, width)."""

    def apply(self, results: dict) -> None:
        """Change ``affine_matrix``."""
        matrix = self.draw_matrix(*pending_shape(results))
        results['affine_matrix'] = matrix @ results.get('affine_matrix', np.eye(3))


@TRANSFORMS.register_module()
class RandomRotation(RandomAffineStep):
    """Rotation about the centre by an angle uniform in +-``max_angle`` degrees.

    Required Keys:

    - img_shape

    Added or Modified Keys:

    - affine_matrix

    Args:
        max_angle (float): In degrees.
        prob (float): Probability of acting.
    """

    def __init__(self, max_angle: float = 15.0, prob: float = 0.4) -> None:
        super().__init__(prob)
        self.max_angle = max_angle

    @cache_randomness
    def draw_angle(self) -> float:
        """In degrees."""
        return np.random.uniform(-self.max_angle, self.max_angle)

    def draw_matrix(self, height: int, width: int) -> np.ndarray:
        """See :func:`rotation_matrix`."""
        return rotation_matrix(self.draw_angle(), height, width)


@TRANSFORMS.register_module()
class RandomQuarterTurn(RandomTransform):
    """A turn by 0, 90, 180 or 270 degrees with equal chance; with a flip, all eight views are equally likely.

    Pixels keep their values; height and width change places with every odd turn.

    Required Keys:

    - img_shape

    Added or Modified Keys:

    - affine_matrix
    - affine_shape: (H, W) of what :class:`ApplyAffine` makes
    """

    def __init__(self) -> None:
        super().__init__(prob=1.0)

    @cache_randomness
    def draw_turns(self) -> int:
        """Counter-clockwise quarter turns, 0 to 3."""
        return np.random.randint(4)

    def apply(self, results: dict) -> None:
        """Change ``affine_matrix`` and set ``affine_shape``."""
        turns, shape = self.draw_turns(), pending_shape(results)
        results['affine_matrix'] = quarter_turn_matrix(turns, *shape) @ results.get('affine_matrix', np.eye(3))
        results['affine_shape'] = shape[::-1] if turns % 2 else shape


@TRANSFORMS.register_module()
class RandomZoom(RandomAffineStep):
    """Zoom about the centre by a factor uniform in ``scale_range``; the size stays.

    Required Keys:

    - img_shape

    Added or Modified Keys:

    - affine_matrix

    Args:
        scale_range (tuple[float]): Smallest and largest factor; above 1 enlarges.
        prob (float): Probability of acting.
    """

    def __init__(self, scale_range: tuple = (0.85, 1.15), prob: float = 0.3) -> None:
        super().__init__(prob)
        self.scale_range = scale_range

    @cache_randomness
    def draw_scale(self) -> float:
        """The factor."""
        return np.random.uniform(*self.scale_range)

    def draw_matrix(self, height: int, width: int) -> np.ndarray:
        """See :func:`zoom_matrix`."""
        return zoom_matrix(self.draw_scale(), height, width)


@TRANSFORMS.register_module()
class RandomResizedCrop(RandomAffineStep):
    """A random box of the image, stretched to the image's size.

    As torchvision's RandomResizedCrop draws it (area uniform, logarithm of the aspect ratio uniform, ten attempts, else
    the largest box of the nearest allowed aspect ratio), but with the aspect ratio relative to the image's own. On a
    square image it is the same; on a long one torchvision's would cut most of the image off.

    Required Keys:

    - img_shape

    Added or Modified Keys:

    - affine_matrix

    Args:
        area_range (tuple[float]): Area of the box relative to the image's.
        aspect_range (tuple[float]): Its aspect ratio, width to height, relative to the image's.
        prob (float): Probability of acting.
    """

    def __init__(self, area_range: tuple = (0.8, 1.0), aspect_range: tuple = (0.9, 1.1), prob: float = 0.3) -> None:
        super().__init__(prob)
        self.area_range = area_range
        self.aspect_range = aspect_range

    @cache_randomness
    def draw_box(self) -> tuple:
        """(left, top, height, width), each relative to the image's, in 0..1."""
        for _ in range(10):
            area = np.random.uniform(*self.area_range)
            aspect = np.exp(np.random.uniform(*np.log(self.aspect_range)))
            height, width = np.sqrt(area / aspect), np.sqrt(area * aspect)
            if height <= 1 and width <= 1:
                return np.random.uniform(0, 1 - width), np.random.uniform(0, 1 - height), height, width
        aspect = np.clip(1.0, *self.aspect_range)
        height, width = min(1.0, 1 / aspect), min(1.0, aspect)
        return (1 - width) / 2, (1 - height) / 2, height, width

    def draw_matrix(self, height: int, width: int) -> np.ndarray:
        """See :func:`crop_matrix`."""
        left, top, crop_height, crop_width = self.draw_box()
        return crop_matrix(left * width, top * height, crop_height * height, crop_width * width, height, width)


@TRANSFORMS.register_module()
class RandomWindow(RandomAffineStep):
    """A square window of the image at a random place, on whole pixels; a smaller image keeps its side.

    Later transforms cost what the window costs, so dense images of any size train in the same memory.

    With ``class_share``, some windows are drawn for a cell: a random class of those in the image, each with equal
    chance, then a cell of it, then a window around that cell's centre. So rare classes are seen more often.

    Required Keys:

    - img_shape
    - gt_bboxes, gt_bboxes_labels, gt_ignore_flags (only with ``class_share``)

    Added or Modified Keys:

    - affine_matrix
    - affine_shape: (H, W) of what :class:`ApplyAffine` makes

    Args:
        size (int): Its side in px.
        class_share (float): Share of the windows that are drawn for a cell, 0 to 1.
    """

    def __init__(self, size: int, class_share: float = 0.0) -> None:
        super().__init__(prob=1.0)
        self.size = size
        self.class_share = class_share

    @cache_randomness
    def draw_corner(self, rows: int, columns: int) -> tuple:
        """(left, top), each from 0 to below the number of places."""
        return np.random.randint(columns), np.random.randint(rows)

    @cache_randomness
    def draw_cell(self, labels: np.ndarray) -> int | None:
        """Index of the cell to show, from labels (N,); None for a window at any place."""
        if np.random.rand() >= self.class_share or not len(labels):
            return None
        return np.random.choice(np.flatnonzero(labels == np.random.choice(np.unique(labels))))

    def draw_matrix(self, height: int, width: int, point: np.ndarray | None = None) -> np.ndarray:
        """See :func:`crop_matrix`, without stretching. The window contains the point (x, y) of the image, if given."""
        sides = np.array([width, height])
        places = sides - np.minimum(self.size, sides) + 1
        first = np.zeros(2, int)
        if point is not None:
            pixel = np.clip(np.floor(point).astype(int), 0, sides - 1)
            first = np.clip(pixel - self.size + 1, 0, places - 1)
            places = np.minimum(pixel, places - 1) - first + 1
        left, top = first + self.draw_corner(*places[::-1])
        return crop_matrix(left, top, height, width, height, width)

    def apply(self, results: dict) -> None:
        """Change ``affine_matrix`` and set ``affine_shape``."""
        shape, matrix, point = pending_shape(results), results.get('affine_matrix', np.eye(3)), None
        if self.class_share:
            cells = np.flatnonzero(~results['gt_ignore_flags'])
            cell = self.draw_cell(results['gt_bboxes_labels'][cells])
            if cell is not None:
                left, top, right, bottom = results['gt_bboxes'][cells[cell]].tensor.squeeze(0).tolist()
                point = (matrix @ [(left + right) / 2, (top + bottom) / 2, 1])[:2]
        results['affine_matrix'] = self.draw_matrix(*shape, point) @ matrix
        results['affine_shape'] = tuple(min(self.size, side) for side in shape)


@TRANSFORMS.register_module()
class ApplyAffine(BaseTransform):
    """Warp image and masks once, by the matrices of the transforms before it.

    The image is interpolated bilinearly, masks by nearest neighbour; pixels from outside are ``pad_val`` and
    background. Boxes are tight around the warped masks. A cell is dropped if its area is less than ``min_visible`` of
    its former area times the matrix's determinant. An ignored region, which may be larger than the result, is dropped
    only if nothing of it is left. An image may end without a cell.

    Required Keys:

    - img (np.uint8)
    - affine_matrix (optional; without it nothing happens)
    - affine_shape (optional; the image keeps its size without it)
    - gt_masks, gt_bboxes, gt_bboxes_labels, gt_ignore_flags (optional)

    Modified Keys:

    - img, img_shape, gt_masks, gt_bboxes, gt_bboxes_labels, gt_ignore_flags

    Removed Keys:

    - affine_matrix, affine_shape

    Args:
        min_visible (float): Share of a cell's area, 0 to 1.
        pad_val (int): Grey value outside the image.
    """

    def __init__(self, min_visible: float = 0.1, pad_val: int = 0) -> None:
        self.min_visible = min_visible
        self.pad_val = pad_val

    def transform(self, results: dict) -> dict:
        """Act on image and annotations."""
        matrix = results.pop('affine_matrix', None)
        if matrix is None:
            return results
        shape = results['img_shape'] = results.pop('affine_shape', results['img'].shape[:2])
        results['img'] = cv2.warpAffine(
            results['img'],
            to_pixel_indices(matrix),
            shape[::-1],
            flags=cv2.INTER_LINEAR,
            borderValue=(self.pad_val,) * 3,
        )
        if 'gt_masks' in results:
            self._transform_annotations(results, matrix, shape)
        return results

    def _transform_annotations(self, results: dict, matrix: np.ndarray, shape: tuple) -> None:
        masks, kept = warp_masks(results['gt_masks'], matrix, shape, self.min_visible)
        kept |= results['gt_ignore_flags'] & (masks.areas > 0)
        results['gt_masks'] = masks[kept]
        results['gt_bboxes'] = results['gt_masks'].get_bboxes(type(results['gt_bboxes']))
        for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
            results[key] = results[key][kept]

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_visible={self.min_visible}, pad_val={self.pad_val})'


def warp_masks(masks: InstanceMapMasks, matrix: np.ndarray, shape: tuple, min_visible: float) -> tuple:
    """Warp the masks of one image, and find which of them to keep.

    Args:
        masks (InstanceMapMasks): N instances.
        matrix (ndarray): (3, 3), see the head of this file.
        shape (tuple): (H, W) of the result.
        min_visible (float): See :class:`ApplyAffine`.

    Returns:
        tuple: The N warped instances, and (N,) bool whether to keep each.
    """
    warped = masks.warp(to_pixel_indices(matrix), shape)
    expected = masks.areas * abs(np.linalg.det(matrix[:2, :2]))
    return warped, (warped.areas > 0) & (warped.areas >= min_visible * expected)
