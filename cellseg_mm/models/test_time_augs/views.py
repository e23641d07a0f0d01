"""Flipped, turned and resized views of an image, and how cells found in them map back."""

from dataclasses import dataclass

import mmcv
import numpy as np
import torch
from torch import Tensor

from cellseg_mm.structures import Cells, Runs, find_runs


@dataclass(frozen=True)
class View:
    """How a view is made of an image.

    Attributes:
        flip: Whether left and right are exchanged, before the turn.
        turns: Quarter turns counterclockwise (``np.rot90``), 0..3.
        scale: Factor on both sides, bilinear as in mmdet's Resize.
    """

    flip: bool = False
    turns: int = 0
    scale: float = 1.0

    def apply(self, image: Tensor) -> Tensor:
        """Make the view of an image, (C, H, W) uint8 on the CPU, in new memory if it differs."""
        if self.flip:
            image = image.flip(2)
        image = torch.rot90(image, self.turns, (1, 2))
        if self.scale == 1:
            return image
        size = tuple(max(round(side * self.scale), 1) for side in (image.shape[2], image.shape[1]))
        resized = mmcv.imresize(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), size)
        return torch.from_numpy(resized).permute(2, 0, 1).contiguous()

    def restore(self, cells: Cells) -> Cells:
        """Map cells of the flipped and turned image, at its own size whatever ``scale`` is, back to the image."""
        height, width = (cells.height, cells.width) if self.turns % 2 == 0 else (cells.width, cells.height)
        parts = []
        for window, x, y in cells.windows():
            rows, columns = cells.height, cells.width
            for _ in range(self.turns):  # a quarter turn clockwise
                x, y, rows, columns = rows - y - window.shape[0], x, columns, rows
                window = np.rot90(window, -1)
            if self.flip:
                x, window = columns - x - window.shape[1], window[:, ::-1]
            parts.append(find_runs(window).move(x, y, window.shape[0], height))
        return Cells(Runs.concatenate(parts, [1] * len(cells)), cells.labels, cells.scores, height, width)
