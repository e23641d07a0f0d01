"""Drawing of instances as outlines coloured by class. Images are (H, W, 3) uint8 RGB."""

from collections.abc import Iterable

import cv2
import numpy as np

from cellseg_mm.structures import decode_window


def draw_outlines(image: np.ndarray, masks: Iterable, colors: list, scale: int = 1) -> np.ndarray:
    """Outline each mask.

    Args:
        image (ndarray): (H, W, 3).
        masks (Iterable): N masks: (H, W) arrays or tensors, not zero inside, or COCO run-length codes.
        colors (list[tuple]): N RGB colours.
        scale (int): Factor by which the picture is enlarged; lines stay thin.

    Returns:
        ndarray: (H * scale, W * scale, 3), a new image.
    """
    canvas = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    for mask, color in zip(masks, colors, strict=True):
        window, x, y = decode_window(mask) if isinstance(mask, dict) else _window(np.asarray(mask) != 0)
        if not window.size:
            continue
        window = cv2.resize(window.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        outline_window(canvas, window, x * scale, y * scale, color, thickness=1 if scale == 1 else 2)
    return canvas


def outline_window(
    canvas: np.ndarray, window: np.ndarray, x: int, y: int, color: tuple, scale: float = 1, thickness: int = 1
) -> None:
    """Draw the outlines of a part of a mask, holes included.

    Args:
        canvas (ndarray): (H, W, 3), changed in place.
        window (ndarray): (h, w), not zero inside.
        x (int): Column of the window's upper left pixel in the image.
        y (int): Row of that pixel.
        color (tuple): RGB.
        scale (float): Px of the canvas to one of the image.
        thickness (int): Of the lines, in px of the canvas.
    """
    contours, _ = cv2.findContours(window.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x, y))
    # the centre of a pixel goes to the centre of the pixels that it becomes
    scaled = [np.floor((contour + 0.5) * scale).astype(np.int32) for contour in contours]
    cv2.drawContours(canvas, scaled, -1, tuple(int(value) for value in color), thickness)


def _window(mask: np.ndarray) -> tuple:
    """The part of a mask (H, W) in its tight box, and x and y of its upper left pixel."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask[:0, :0], 0, 0
    return mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], int(cols[0]), int(rows[0])


def add_caption(image: np.ndarray, title: str, classes: list, colors: list) -> np.ndarray:
    """Add a white strip below, with a title and the legend of class colours, wrapped to the image's width."""
    font, size, height = cv2.FONT_HERSHEY_SIMPLEX, 0.45, 22
    entries = [(title, None), *zip(classes, colors, strict=True)]
    rows, x = [[]], 6
    for text, color in entries:
        advance = cv2.getTextSize(text, font, size, 1)[0][0] + (12 if color is None else 34)
        if rows[-1] and x + advance > image.shape[1]:
            rows.append([])
            x = 6
        rows[-1].append((x, text, color))
        x += advance
    strip = np.full((height * len(rows), image.shape[1], 3), 255, np.uint8)
    for index, row in enumerate(rows):
        base = height * index + 15
        for x, text, color in row:
            if color is not None:
                color = tuple(int(value) for value in color)
                cv2.rectangle(strip, (x, base - 10), (x + 14, base + 1), color, cv2.FILLED)
                cv2.rectangle(strip, (x, base - 10), (x + 14, base + 1), (90, 90, 90), 1)
            cv2.putText(strip, text, (x if color is None else x + 20, base), font, size, (30, 30, 30), 1, cv2.LINE_AA)
    return np.vstack([image, strip])


def contact_sheet(rows: list, titles: list) -> np.ndarray:
    """Lay out pictures in rows under column titles, each in the corner of a field of the largest size.

    Args:
        rows (list[list[ndarray]]): R rows of C pictures (H, W, 3), of any sizes.
        titles (list[str]): C column titles.
    """
    height, width = np.max([picture.shape[:2] for row in rows for picture in row], axis=0)
    header, gap = 24, 8
    sheet = np.full((header + len(rows) * (height + gap), len(titles) * (width + gap), 3), 255, np.uint8)
    for column, title in enumerate(titles):
        origin = (column * (width + gap) + 2, 16)
        cv2.putText(sheet, title, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
        for index, row in enumerate(rows):
            top, left = header + index * (height + gap), column * (width + gap)
            picture = row[column]
            sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet
