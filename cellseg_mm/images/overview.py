import itertools
import math

import cv2
import numpy as np

from .pixel_values import SAMPLE_SIDE


def read_overview(source: object, max_side: int) -> tuple:
    """The image shrunk by a whole number to at most ``max_side`` px a side, read square by square.

    Args:
        source (object): From :func:`open_image`.
        max_side (int): Px.

    Returns:
        tuple: (H // k, W // k, 3) uint8 RGB, the means of k x k px, and k. Left-over px at the right and at the
        bottom are dropped.
    """
    shrink = math.ceil(max(source.height, source.width) / max_side)
    height, width = max(1, source.height // shrink), max(1, source.width // shrink)
    overview = np.empty((height, width, 3), np.uint8)
    block = max(1, SAMPLE_SIDE // shrink)
    for top, left in itertools.product(range(0, height, block), range(0, width, block)):
        part = overview[top : top + block, left : left + block]
        size = min(part.shape[1] * shrink, source.width), min(len(part) * shrink, source.height)
        pixels = source.read(left * shrink, top * shrink, *size)
        part[:] = cv2.resize(pixels, part.shape[1::-1], interpolation=cv2.INTER_AREA)
    return overview, shrink
