"""What a person has changed in the cells that a model found in an image, as a list of steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellseg_mm.structures import Cells
from cellseg_mm.utils import UserError

MAX_NAME = 60  # characters of a class name


@dataclass(frozen=True)
class Corrections:
    """The cells of an image as a person has corrected them. Cells keep their index; added ones follow those found.

    Attributes:
        found: The cells that the model found.
        classes: Names of the classes, those of ``found.labels`` first.
        steps: Plain values in the order of the changes, for JSON: ``dict(kind='name', cell=3, label=1)``,
            ``dict(kind='delete', cell=3)``, ``dict(kind='add', code=..., label=1)``, ``dict(kind='rename', label=1,
            name='tumour')``, ``dict(kind='class', name='tumour')``.
    """

    found: Cells
    classes: tuple
    steps: tuple = ()

    def after(self, **step: object) -> 'Corrections':
        """These corrections and a further step.

        Raises:
            UserError: If the step names no cell or class that is there, or a class name is empty or taken.
        """
        state = self.state()
        if 'label' in step and not 0 <= step['label'] < len(state.classes):
            raise UserError(f'no class {step["label"]}: there are {len(state.classes)}')
        if 'cell' in step and not (0 <= step['cell'] < len(state.alive) and state.alive[step['cell']]):
            raise UserError(f'no cell {step["cell"] + 1} here')
        if 'name' in step:
            step['name'] = ' '.join(str(step['name']).split())
            # in which case does not count, as in tools/prepare_data.py, which reads the corrected images
            others = [name.casefold() for label, name in enumerate(state.classes) if label != step.get('label')]
            if not 0 < len(step['name']) <= MAX_NAME or step['name'].casefold() in others:
                raise UserError(
                    f'class name {step["name"][:MAX_NAME]!r}: it must have 1 to {MAX_NAME} characters and not be taken'
                )
        return replace(self, steps=(*self.steps, step))

    def undone(self) -> 'Corrections':
        """These corrections without the last step."""
        return replace(self, steps=self.steps[:-1])

    def state(self) -> 'State':
        """The cells after all steps.

        Examples:
            Of two cells the first gets another class and the second is deleted:

            >>> code = dict(size=[2, 2], counts='013')
            >>> found = Cells.from_codes([code, code], [0, 0], [0.9, 0.8], 2, 2)
            >>> corrections = Corrections(found, ('a', 'b')).after(kind='name', cell=0, label=1)
            >>> state = corrections.after(kind='delete', cell=1).state()
            >>> state.cells.labels.tolist(), state.alive.tolist(), state.corrected.tolist()
            ([1, 0], [True, False], [True, False])
        """
        classes, labels, codes = list(self.classes), self.found.labels.tolist(), []
        alive, corrected = [True] * len(labels), [False] * len(labels)
        for step in self.steps:
            kind = step['kind']
            if kind == 'name':
                labels[step['cell']], corrected[step['cell']] = step['label'], True
            elif kind == 'delete':
                alive[step['cell']] = False
            elif kind == 'add':
                codes.append(step['code'])
                labels.append(step['label'])
                alive.append(True)
                corrected.append(True)
            elif kind == 'rename':
                classes[step['label']] = step['name']
            elif kind == 'class':
                classes.append(step['name'])
            else:
                raise UserError(f'corrections: unknown step {kind!r}')
        found = self.found
        added = Cells.from_codes(codes, [0] * len(codes), [1.0] * len(codes), found.height, found.width)
        cells = replace(Cells.concatenate([found, added]), labels=np.array(labels, np.int64))
        return State(cells, tuple(classes), np.array(alive, bool), np.array(corrected, bool))

    def to_dict(self) -> dict:
        """Convert for JSON."""
        found = self.found
        return dict(
            height=found.height,
            width=found.width,
            codes=[code['counts'] for code in found.codes()],
            labels=found.labels.tolist(),
            scores=[round(float(score), 4) for score in found.scores],
            classes=list(self.classes),
            steps=list(self.steps),
        )

    @classmethod
    def from_dict(cls, content: dict) -> 'Corrections':
        """Convert back from :meth:`to_dict`.

        Raises:
            UserError: If the content is of another form, or a step does not fit the cells.
        """
        try:
            size = [content['height'], content['width']]
            codes = [dict(size=size, counts=counts) for counts in content['codes']]
            found = Cells.from_codes(codes, content['labels'], content['scores'], *size)
            corrections = cls(found, tuple(content['classes']), tuple(content['steps']))
            state = corrections.state()
            if not len(found.labels) == len(codes) == len(found.scores):
                raise ValueError('lists of different lengths')
            if not set(state.cells.labels.tolist()) <= set(range(len(state.classes))):
                raise ValueError('labels without a class')
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f'does not hold corrections ({error!r})') from error
        return corrections


@dataclass(frozen=True)
class State:
    """The cells of :class:`Corrections` after all steps: N cells, those found and those added.

    Attributes:
        cells: The N cells with their labels now; added ones have score 1.
        classes: Names of the classes now.
        alive: (N,) bool, False for deleted cells.
        corrected: (N,) bool, whether a person has named the cell.
    """

    cells: Cells
    classes: tuple
    alive: np.ndarray
    corrected: np.ndarray

    def left(self) -> Cells:
        """The cells that are not deleted."""
        return self.cells.select(self.alive)

    def at(self, x: float, y: float) -> int | None:
        """The index of the smallest cell that covers a point, in px of the image; None if none does."""
        height = self.cells.height
        if not (0 <= x < self.cells.width and 0 <= y < height):
            return None
        place = int(x) * height + int(y)
        runs = self.cells.runs
        covers = (runs.start <= place) & (place < runs.start + runs.length)
        owners = [owner for owner in runs.owner[covers].tolist() if self.alive[owner]]
        areas = self.cells.areas()
        return min(owners, key=lambda owner: areas[owner], default=None)


def next_cell(state: State, current: int | None, step: int) -> int | None:
    """The index of the cell after (1) or before (-1) the current one, in reading order, over the end to the start."""
    boxes = state.cells.boxes()
    order = [index for index in np.lexsort((boxes[:, 0], boxes[:, 1] // 32)).tolist() if state.alive[index]]
    if not order:
        return None
    if current not in order:
        return order[0 if step > 0 else -1]
    return order[(order.index(current) + step) % len(order)]


def names_of(corrections: Sequence) -> list:
    """The classes of several images' corrections, each once, in the order in which they come."""
    return list(dict.fromkeys(name for entry in corrections for name in entry.state().classes))
