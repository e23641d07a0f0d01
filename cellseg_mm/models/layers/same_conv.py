"""Convolution with TensorFlow's "same" padding, and fast weight gradients of 5x5 depthwise kernels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """Conv2d whose output has ``ceil(size / stride)`` px a side, padded on the right and at the bottom first.

    Weights trained with TensorFlow's ``padding='same'`` expect this. At stride 1 it is the usual padding.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        left, right, top, bottom = (
            part
            for axis in (1, 0)
            for part in _same_padding(x.shape[2 + axis], self.kernel_size[axis], self.stride[axis])
        )
        depthwise = self.groups == self.in_channels == self.out_channels
        if depthwise and self.kernel_size == (5, 5) and self.stride == (1, 1) and x.device.type == 'cpu':
            return _Depthwise5x5.apply(F.pad(x, (left, right, top, bottom)), self.weight)
        if (left, top) == (right, bottom):
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _same_padding(size: int, kernel_size: int, stride: int) -> tuple:
    """Px of padding before and after."""
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


class _Depthwise5x5(torch.autograd.Function):
    """A depthwise convolution at stride 1 without padding or bias.

    oneDNN computes the weight gradient of a 3x3 depthwise kernel fast and that of a 5x5 one slowly (as of torch 2.13).
    So the latter is assembled from those of four 3x3 kernels, its overlapping corners.
    """

    @staticmethod
    def forward(ctx: object, x: Tensor, weight: Tensor) -> Tensor:
        """(N, C, H + 4, W + 4) and (C, 1, 5, 5) to (N, C, H, W)."""
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, groups=x.shape[1])

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple:
        """Gradients of the input and of the weight."""
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _gradients(grad, x, weight, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            height, width = grad.shape[2:]
            grad_weight, corner = torch.empty_like(weight), weight[:, :, :3, :3]
            for i in (0, 2):
                for j in (0, 2):
                    window = x[:, :, i : i + height + 2, j : j + width + 2]
                    window = window.contiguous(memory_format=torch.channels_last)
                    part = _gradients(grad, window, corner, [False, True, False])[1]
                    grad_weight[:, :, i : i + 3, j : j + 3] = part
        return grad_x, grad_weight


def _gradients(grad: Tensor, x: Tensor, weight: Tensor, wanted: list) -> tuple:
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], x.shape[1], wanted
    )
