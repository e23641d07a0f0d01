"""Pictures within a page: plots and photographs as data URIs, outlines of cells as SVG paths."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from matplotlib import rc_context, style
from matplotlib.figure import Figure

from cellseg_mm.structures import decode_window

# Names of classes and runs are not mathematics.
PLAIN = {'text.parse_math': False, 'savefig.transparent': True, 'legend.framealpha': 0, 'svg.hashsalt': 'report'}
# Colours of text, lesser text and lines, as in the page's style sheet; plots have the page's background.
THEMES = dict(light=('#1d1b26', '#5f5b70', '#b9b5c6'), dark=('#eceaf3', '#a8a4b8', '#5a566b'))
# Losses in photographs of tissue do not show at this quality.
JPEG_QUALITY = 88


def plot_sources(draw: Callable[[], Figure]) -> dict:
    """A plot as SVG data URIs, ``light`` and ``dark``; ``draw`` is called once for each."""
    sources = {}
    for theme, (text, lesser, line) in THEMES.items():
        base = style.library['dark_background'] if theme == 'dark' else {}
        colors = {'text.color': text, 'axes.labelcolor': text, 'axes.edgecolor': line, 'grid.color': line}
        with rc_context(base | PLAIN | colors | {'xtick.color': lesser, 'ytick.color': lesser}):
            buffer = io.BytesIO()
            draw().savefig(buffer, format='svg', metadata={'Date': None})
        sources[theme] = data_uri(buffer.getvalue(), 'image/svg+xml')
    return sources


def photo_source(path: Path, max_side: int) -> str | None:
    """An image file as JPEG data URI, at most ``max_side`` px on its longer side; None if it cannot be read."""
    image = cv2.imread(str(path))
    if image is None:
        return None
    scale = max_side / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(scale * side)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return data_uri(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes(), 'image/jpeg')


def data_uri(content: bytes, media_type: str) -> str:
    """RFC 2397, in base64."""
    return f'data:{media_type};base64,{base64.b64encode(content).decode()}'


def outline_path(code: dict) -> str:
    """SVG path data of the outline of a mask, holes included, through the centres of its border pixels.

    Args:
        code (dict): COCO run-length code.

    Returns:
        str: In px of the image, the first pixel's centre at (0, 0); empty for a mask without a pixel.
    """
    window, x, y = decode_window(code)
    if not window.size:
        return ''
    contours, _ = cv2.findContours(window.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
    parts = []
    for contour in contours:
        start, *_ = points = contour[:, 0]
        steps = ' '.join(f'{dx} {dy}' for dx, dy in np.diff(points, axis=0))
        parts.append(f'M{start[0]} {start[1]}l{steps}z' if steps else f'M{start[0]} {start[1]}h0z')
    return ''.join(parts).replace(' -', '-')
