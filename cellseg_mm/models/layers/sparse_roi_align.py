"""RoIAlign (He et al., ICCV 2017) on the CPU as a product with a sparse matrix."""

import mmcv.ops
import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.autograd.function import once_differentiable


class SparseRoIAlign(mmcv.ops.RoIAlign):
    """mmcv's ``RoIAlign`` for all channels of a pixel at once, several times as fast on the CPU.

    Values and gradients equal mmcv's up to the order of sums. Features may be contiguous or ``channels_last``, which
    needs no copy. Outputs and gradients are ``channels_last``. A config names it as
    ``roi_layer=dict(type='SparseRoIAlign', ...)``.

    It takes averages of float32 or float64 features on the CPU; anything else goes to mmcv, and so do RoIs of negative
    size or with NaN, to raise mmcv's error.
    """

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool features.

        Args:
            input (Tensor): (N, C, H, W).
            rois (Tensor): (R, 5) [image, x1, y1, x2, y2], in px of the image; without a gradient, as in mmcv.

        Returns:
            Tensor: (R, C, h, w).
        """
        if not self._is_supported(input, rois):
            return super().forward(input.contiguous(), rois)  # mmcv reads any memory as contiguous
        num_images, _, height, width = input.shape
        options = self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        matrix = pooling_matrix(rois.detach().numpy(), (num_images, height, width), *options)
        return _Pooling.apply(input, matrix, self.output_size)

    def _is_supported(self, features: Tensor, rois: Tensor) -> bool:
        return (
            self.pool_mode == 'avg'
            and not self.use_torchvision
            and features.device.type == rois.device.type == 'cpu'
            and features.dtype == rois.dtype
            and features.dtype in (torch.float32, torch.float64)
            and rois.shape[1:] == (5,)
            and bool((rois[:, 3:] - rois[:, 1:3] >= 0).all())
        )


class _Pooling(torch.autograd.Function):
    """(N, C, H, W) features times a matrix of :func:`pooling_matrix`: (R, C, h, w)."""

    @staticmethod
    def forward(ctx: object, features: Tensor, matrix: csr_array, output_size: tuple) -> Tensor:
        ctx.matrix, ctx.shape = matrix, features.shape
        return _from_rows(matrix @ _to_rows(features), output_size)

    @staticmethod
    @once_differentiable
    def backward(ctx: object, gradient: Tensor) -> tuple:
        return _from_rows(ctx.matrix.T @ _to_rows(gradient), ctx.shape[2:]), None, None


def _to_rows(maps: Tensor) -> np.ndarray:
    """(N, C, H, W) to (N * H * W, C), without a copy of ``channels_last``."""
    return maps.detach().permute(0, 2, 3, 1).flatten(0, 2).numpy()


def _from_rows(rows: np.ndarray, size: tuple) -> Tensor:
    """(N * H * W, C) to (N, C, H, W) ``channels_last``."""
    return torch.from_numpy(rows).unflatten(0, (len(rows) // (size[0] * size[1]), *size)).permute(0, 3, 1, 2)


def pooling_matrix(
    rois: np.ndarray, shape: tuple, output_size: tuple, spatial_scale: float, sampling_ratio: int, aligned: bool
) -> csr_array:
    """The share of each pixel in each bin of the RoIs.

    RoIAlign averages bilinear samples, and both are linear: pooled = matrix @ features, with a row of channels for each
    pixel. The weights of a bin are products of weights along y and along x. The arithmetic of sampling points is that
    of mmcv's ``roi_align``, operation by operation, so that points fall on the same side of a map's border.

    Args:
        rois (ndarray): (R, 5) float [image, x1, y1, x2, y2], without negative sizes.
        shape (tuple): (N, H, W) of the features.
        output_size (tuple): (h, w) bins of a RoI.
        spatial_scale (float): Px of the features per px of the RoIs.
        sampling_ratio (int): Samples of a bin along each axis; 0 for the size of the bin in px, rounded up.
        aligned (bool): Pixel centres are at half-integer coordinates; else at integers, and RoIs measure at least 1.

    Returns:
        csr_array: (R * h * w, N * H * W) of the dtype of ``rois``.

    Examples:
        Two bins of one pixel each in a row of three pixels; the RoI starts half a pixel right of the first one's edge:

        >>> roi = np.array([[0, 0.5, 0, 2.5, 1]])
        >>> matrix = pooling_matrix(roi, (1, 1, 3), (1, 2), spatial_scale=1, sampling_ratio=1, aligned=True)
        >>> matrix.toarray().tolist()
        [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """
    _, height, width = shape
    corners = rois[:, 1:] * rois.dtype.type(np.float32(spatial_scale)) - rois.dtype.type(0.5 if aligned else 0)
    starts, sizes = corners[:, 1::-1], corners[:, :1:-1] - corners[:, 1::-1]  # from here on y comes before x
    bins = (sizes if aligned else np.maximum(sizes, 1)) / np.array(output_size, rois.dtype)
    grids = np.full(bins.shape, sampling_ratio) if sampling_ratio > 0 else np.ceil(bins.astype(np.float32)).astype(int)
    num_bins, pixels_of_bin = output_size[0] * output_size[1], np.zeros(len(rois), int)
    parts = []
    for grid in np.unique(grids[(grids > 0).all(axis=1)], axis=0):  # without samples a bin is 0
        group = np.flatnonzero((grids == grid).all(axis=1))
        (rows, row_weights), (cols, col_weights) = (
            axis_weights(starts[group, axis], bins[group, axis], grid[axis], output_size[axis], shape[1 + axis])
            for axis in (0, 1)
        )
        rows += rois[group, 0].astype(int)[:, None, None] * height
        pixels = rows[:, :, None, :, None] * width + cols[:, None, :, None, :]
        weights = row_weights[:, :, None, :, None] * col_weights[:, None, :, None, :]
        pixels_of_bin[group] = pixels.shape[3] * pixels.shape[4]
        parts.append((group, pixels.reshape(len(group), -1), weights.reshape(len(group), -1)))
    ends = pixels_of_bin.repeat(num_bins).cumsum()
    indptr = np.concatenate([[0], ends])
    indices, data = np.empty(indptr[-1], int), np.empty(indptr[-1], rois.dtype)
    for group, pixels, weights in parts:
        places = indptr[group * num_bins, None] + np.arange(pixels.shape[1])
        indices[places], data[places] = pixels, weights
    return csr_array((data, indices, indptr), shape=(len(ends), np.prod(shape)))


def axis_weights(starts: np.ndarray, bins: np.ndarray, grid: int, count: int, length: int) -> tuple:
    """Pixels along one axis and their weights in the bins of RoIs.

    Args:
        starts (ndarray): (R,) where the RoIs start, in px; the first pixel's centre is at 0.
        bins (ndarray): (R,) size of their bins.
        grid (int): Samples of a bin, at least 1.
        count (int): Bins of a RoI.
        length (int): Pixels.

    Returns:
        tuple: (R, count, T) int64 pixels and their weights. T is the same for all bins: bins of fewer pixels are filled
        up with weights of 0.

    Examples:
        Two bins of 1 px from 0.5 on, each with one sample at its middle, the first one at 1:

        >>> pixels, weights = axis_weights(np.array([0.5]), np.array([1.0]), grid=1, count=2, length=4)
        >>> pixels.tolist(), weights.tolist()
        ([[[1, 2], [2, 3]]], [[[1.0, 0.0], [1.0, 0.0]]])
    """
    dtype = starts.dtype.type
    starts, bins = starts[:, None, None], bins[:, None, None]
    samples = np.arange(grid, dtype=starts.dtype) + dtype(0.5)
    points = starts + np.arange(count, dtype=starts.dtype)[:, None] * bins + samples * bins / dtype(grid)
    inside = (points >= -1) & (points <= length)  # others count as 0
    points = points.clip(0, length - 1)
    first, last = points[..., 0].astype(int), points[..., -1].astype(int)
    pixels = first[..., None] + np.arange((last - first).max() + 2)
    weights = np.zeros(pixels.shape, starts.dtype)
    for sample in range(grid):
        # a sample is shared by the two pixels around it, each weighted by the distance of the other
        shares = np.maximum(1 - np.abs(points[..., sample, None] - pixels), 0, dtype=starts.dtype)
        weights += shares * inside[..., sample, None]
    return np.minimum(pixels, length - 1), weights / dtype(grid)
