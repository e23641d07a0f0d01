"""What clicks, boxes and keys in the part Correct and teach do to an image, and the picture that shows it."""

import base64
import html
from dataclasses import dataclass, replace

import cv2
import numpy as np

from cellseg_mm.images import ArraySource
from cellseg_mm.inference import CellInferencer
from cellseg_mm.teaching.corrections import Corrections, State, next_cell
from cellseg_mm.utils import UserError
from cellseg_mm.visualization.colors import class_colors
from cellseg_mm.visualization.draw import outline_window

SHOWN = 1400  # px of the picture's longer side, at most
ENLARGED = 700  # px to which small images are enlarged
SELECTED = (255, 255, 255)
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]
HELP = (
    'Click a cell to choose it; drag to add one that was missed. Keys: **arrows** next and previous cell, **1 to 9** '
    'its class, **Enter** the picked class, **Delete**, **u** undo, **b** a box (arrows move it, with Shift they size '
    'it, Enter adds the cell).'
)
NOTHING = 'Open an image first.'


@dataclass(frozen=True)
class Correcting:
    """An image that is being corrected.

    Attributes:
        key: Its name in the visitor's folder.
        image: (H, W, 3) uint8 RGB.
        corrections: Its corrections so far.
        chosen: Index of the chosen cell, or None.
        pixel_size: Micrometres a px, or None.
    """

    key: str
    image: np.ndarray
    corrections: Corrections
    chosen: int | None = None
    pixel_size: float | None = None

    @property
    def source(self) -> ArraySource:
        """The image with its pixel size."""
        return ArraySource(self.image, self.pixel_size, name=f'{self.key}.tif')


def pad(current: Correcting | None) -> str:
    """The picture with its outlines as HTML: an image, the frame of a drawn box, and the classes with their keys."""
    if current is None:
        return f'<p>{NOTHING}</p>'
    state = current.corrections.state()
    drawn = draw(current, state)
    encoded = base64.b64encode(cv2.imencode('.jpg', drawn[..., ::-1], QUALITY)[1]).decode()
    counts = np.bincount(state.left().labels, minlength=len(state.classes))
    keys = [
        f'<span class="key"><i style="background: rgb{color}"></i><b>{number}</b> {html.escape(name)} {count:,}</span>'
        for number, (name, color, count) in enumerate(
            zip(state.classes, class_colors(len(state.classes)), counts, strict=True), start=1
        )
    ]
    label = 'Cells to correct: arrows choose a cell, digits give it a class, Delete removes it, b draws a box, u undoes'
    # with its size, so that nothing moves when the next picture comes
    size = f'width="{drawn.shape[1]}" height="{drawn.shape[0]}"'
    picture = f'<img {size} src="data:image/jpeg;base64,{encoded}" alt="the cells, outlined" draggable="false">'
    return (
        f'<div class="pad" tabindex="0" role="application" aria-label="{label}">{picture}<div class="box"></div></div>'
        f'<div class="keys">{" ".join(keys)}</div>'
    )


def draw(current: Correcting, state: State) -> np.ndarray:
    """The image with the outlines of its cells; corrected ones are thicker, the chosen one is white."""
    longer = max(current.image.shape[:2])
    scale = min(SHOWN / longer, max(1, ENLARGED / longer))
    canvas = cv2.resize(current.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else 2)
    colors = class_colors(len(state.classes))
    for index, (window, x, y) in enumerate(state.cells.windows()):
        if state.alive[index]:
            thickness = 3 if state.corrected[index] else 1
            outline_window(canvas, window, x, y, colors[state.cells.labels[index]], scale, thickness)
            if index == current.chosen:
                outline_window(canvas, window, x, y, (0, 0, 0), scale, 7)
                outline_window(canvas, window, x, y, SELECTED, scale, 4)
    return canvas


def describe(current: Correcting | None) -> str:
    """What is chosen and how much is corrected, in a line."""
    if current is None:
        return NOTHING
    state = current.corrections.state()
    changed = f'{len(current.corrections.steps)} changes saved in {current.key}.'
    if current.chosen is None:
        return f'{int(state.alive.sum()):,} cells. {changed}'
    name = state.classes[state.cells.labels[current.chosen]]
    return f'Cell {current.chosen + 1}: **{name}**. {changed}'


def on_key(current: Correcting, key: str, label: int | None = None) -> Correcting:
    """The image after a key of the pad, see :data:`HELP`; ``label`` is the picked class.

    Raises:
        UserError: If there is nothing to change.
    """
    corrections, chosen, state = current.corrections, current.chosen, current.corrections.state()
    if key == 'u':
        if not corrections.steps:
            raise UserError('Nothing to undo.')
        corrections, chosen = corrections.undone(), None
    elif key in ('ArrowRight', 'n'):
        chosen = next_cell(state, chosen, 1)
    elif key == 'ArrowLeft':
        chosen = next_cell(state, chosen, -1)
    elif chosen is None:
        raise UserError('Choose a cell first: click it, or press an arrow key.')
    elif key in ('Delete', 'Backspace'):
        following = next_cell(state, chosen, 1)
        corrections = corrections.after(kind='delete', cell=chosen)
        chosen = following if following != chosen else None
    elif key == 'Enter':
        if label is None:
            raise UserError('Pick a class first.')
        corrections = corrections.after(kind='name', cell=chosen, label=label)
    else:
        corrections = corrections.after(kind='name', cell=chosen, label=int(key) - 1)
    return replace(current, corrections=corrections, chosen=chosen)


def on_point(current: Correcting, point: list, label: int | None) -> Correcting:
    """The image after a click: the cell there is chosen and, with a label, named."""
    height, width = current.image.shape[:2]
    chosen = current.corrections.state().at(point[0] * width, point[1] * height)
    corrections = current.corrections
    if chosen is not None and label is not None:
        corrections = corrections.after(kind='name', cell=chosen, label=label)
    return replace(current, corrections=corrections, chosen=chosen)


def on_box(current: Correcting, box: list, label: int | None, detector: CellInferencer) -> Correcting:
    """The image with the cell that the model sees in a box; without a label, of the class that the model gives.

    Args:
        current (Correcting): The image.
        box (list[float]): Two opposite corners x, y, x, y, as fractions of the picture.
        label (int | None): The class.
        detector (CellInferencer): The model.

    Raises:
        UserError: If the model sees no cell in the box, or gives it a class that this image does not have.
    """
    height, width = current.image.shape[:2]
    xs, ys = sorted([box[0] * width, box[2] * width]), sorted([box[1] * height, box[3] * height])
    xs, ys = np.clip(xs, 0, width), np.clip(ys, 0, height)
    empty = xs[1] <= xs[0] or ys[1] <= ys[0]
    cells = () if empty else detector.cell_in_box(current.source, [xs[0], ys[0], xs[1], ys[1]])
    if not len(cells):
        raise UserError('No cell was seen in this box; draw it close around the cell.')
    state = current.corrections.state()
    if label is None:
        name = detector.classes[int(cells.labels[0])]
        if name not in state.classes:  # a taught model may have other classes than this image
            raise UserError(f'The model takes this cell for {name}, which is not a class here; pick a class first.')
        label = state.classes.index(name)
    corrections = current.corrections.after(kind='add', code=cells.codes()[0], label=label)
    return replace(current, corrections=corrections, chosen=len(state.alive))
