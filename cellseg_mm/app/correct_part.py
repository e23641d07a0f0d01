"""The part Correct and teach: give cells other classes, delete and add some, teach the model, see whether it helped."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gradio as gr

from cellseg_mm.inference import CellInferencer
from cellseg_mm.utils import UserError

from .correct import HELP, NOTHING, Correcting, describe, on_box, on_key, on_point, pad
from .messages import in_page
from .segmented import Segmented, choose
from .visitor import Visitor

LOOK = 'only choose it'
STORAGE = 'cellseg_mm_visitor'  # the key in the browser's storage
CSS = """
.pad { position: relative; display: inline-block; line-height: 0; touch-action: none; max-width: 100%; }
.pad:focus { outline: 3px solid #2563eb; outline-offset: 2px; }
.pad img { max-width: 100%; height: auto; cursor: crosshair; user-select: none; }
.pad .box { position: absolute; display: none; border: 2px dashed #fff; box-shadow: 0 0 0 1px #000;
  pointer-events: none; }
.keys { margin-top: 8px; } .keys .key { margin-right: 16px; white-space: nowrap; }
.keys i { display: inline-block; width: 12px; height: 12px; border: 1px solid #000; margin-right: 4px; }
"""


class CorrectPart:
    """The actions of this part of the page. What a visitor changes is written before it is shown.

    Args:
        detector (CellInferencer): The model.
        checkpoint (str): Its file.
        root (Path): The folder of all visitors' corrections.
        folder (Path): The folder from which the page may send files.
        open_file (Callable): ``(path, old image, visitor) -> Segmented``.
    """

    def __init__(
        self, detector: CellInferencer, checkpoint: str, root: Path, folder: Path, open_file: Callable
    ) -> None:
        self._detector, self._checkpoint, self._root, self._folder = detector, checkpoint, root, folder
        self._open_file = open_file

    def load(self, name: str) -> tuple:
        """The visitor whose name the browser kept, or a new one."""
        visitor = Visitor(self._root, name, self._checkpoint)
        return visitor.name, visitor, gr.update(choices=visitor.keys())

    def begin(self, seen: Segmented | None, chosen: list, threshold: float, visitor: Visitor) -> tuple:
        """Show the image above, with the corrections that were made before."""
        if seen is None:
            return None, pad(None), describe(None), gr.update(), gr.update()
        labels = [label for label, name in enumerate(seen.classes) if name in chosen]
        cells = choose(seen.cells, labels, threshold)
        key, corrections = visitor.begin(seen.name, seen.image, cells, seen.classes)
        current = Correcting(key, seen.image, corrections)
        return current, pad(current), describe(current), class_choices(current), gr.update(choices=visitor.keys())

    def point(self, current: Correcting | None, visitor: Visitor, name: str, event: gr.EventData) -> tuple:
        """A click or a drawn box."""
        data, label = event._data or {}, label_of(current, name)
        if data.get('box'):
            find = (visitor.detector if visitor.taught else self._detector).cell_in_box
            return change(current, visitor, lambda image: on_box(image, data['box'], label, find))
        return change(current, visitor, lambda image: on_point(image, data['point'], label))

    def press(self, current: Correcting | None, visitor: Visitor, event: gr.EventData) -> tuple:
        """A key on the picture."""
        return change(current, visitor, lambda image: on_key(image, str(event._data['key'])))

    def undo(self, current: Correcting | None, visitor: Visitor) -> tuple:
        """The button Undo."""
        return change(current, visitor, lambda image: on_key(image, 'u'))

    def name_class(self, current: Correcting | None, visitor: Visitor, picked: str, name: str) -> tuple:
        """Rename the picked class, or add one if none is picked."""
        label = label_of(current, picked)
        step = dict(kind='class', name=name) if label is None else dict(kind='rename', label=label, name=name)
        new, *views = change(
            current, visitor, lambda image: replace(image, corrections=image.corrections.after(**step))
        )
        return new, *views, class_choices(new), ''

    def teach(self, visitor: Visitor, others: bool, progress: gr.Progress = gr.Progress()) -> tuple:  # noqa: B008
        """Teach, and say whether it helped."""
        try:
            words = visitor.teach(others, lambda images: progress.tqdm(images, desc='Seeing cells'))
        except UserError as error:
            raise in_page(str(error)) from error
        return f'{words} The next image that you open is named by it.', self._copies([visitor.taught])

    def reopen(self, key: str | None, old: Segmented | None, visitor: Visitor) -> Segmented | None:
        """Open an image that was corrected before."""
        if not key:
            return old
        try:
            return self._open_file(str(visitor.image_file(key)), old, visitor)
        except UserError as error:
            raise in_page(str(error)) from error

    def files(self, visitor: Visitor) -> list:
        """All corrected images with their files."""
        found = [*visitor.folder.glob('images/*'), *visitor.folder.glob('coco/*')]
        if not found:
            raise in_page('Nothing is corrected yet.')
        return self._copies(sorted(found))

    def _copies(self, paths: list) -> list:
        out = tempfile.mkdtemp(dir=self._folder)
        return [shutil.copy(path, out) for path in paths]

    def build(self, app: gr.Blocks, mine: gr.State, choice: list, segmented: object, show: Callable) -> None:
        """Build this part within the ``with`` block of the page.

        Args:
            app (Blocks): The page.
            mine (State): The :class:`Visitor`.
            choice (list): The components of the image that is seen, its classes and its threshold.
            segmented (object): The event after which a new image is seen.
            show (Callable): Chains to an event what shows a new image in the page.
        """
        name = gr.BrowserState('', storage_key=STORAGE)
        current = gr.State(None)
        gr.Markdown('## Correct and teach')
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                given = gr.Radio([LOOK], value=LOOK, label='A click gives the cell the class', elem_id='given')
                with gr.Row():
                    text = gr.Textbox(label='Class name', max_lines=1, elem_id='class-name')
                    rename = gr.Button('Add, or rename the picked one', elem_id='rename')
                undo = gr.Button('Undo', elem_id='undo')
                others = gr.Checkbox(True, label='Cells that I left as they are teach too', elem_id='others')
                teach = gr.Button('Teach the model', variant='primary', elem_id='teach')
                outcome = gr.Markdown(elem_id='outcome')
                model = gr.File(label='Your model', interactive=False, file_count='multiple', elem_id='model')
                earlier = gr.Dropdown([], label='Corrected images', elem_id='earlier')
                fetch = gr.Button('Files of the corrections', elem_id='fetch')
                files = gr.File(label='Corrections', interactive=False, file_count='multiple', elem_id='corrections')
            with gr.Column(scale=2, min_width=320):
                gr.Markdown(HELP)
                status = gr.Markdown(NOTHING, elem_id='correcting')
                script = (Path(__file__).parent / 'pad.js').read_text('utf-8')
                view = gr.HTML(pad(None), css_template=CSS, js_on_load=script, elem_id='pad')
        views = [current, view, status]
        app.load(self.load, name, [name, mine, earlier])
        begin = dict(fn=self.begin, inputs=[*choice, mine], outputs=[*views, given, earlier], show_progress='hidden')
        reopened = show(earlier.input(self.reopen, [earlier, choice[0], mine], choice[0], concurrency_limit=1))
        for seen in (segmented, reopened):
            seen.success(**begin)
        for control in choice[1:]:
            control.change(**begin, trigger_mode='always_last')
        # whoever types fast must lose no key, and changes come one after the other
        quick = dict(show_progress='hidden', trigger_mode='multiple', concurrency_limit=1, concurrency_id='correct')
        view.click(self.point, [current, mine, given], views, **quick)
        view.submit(self.press, [current, mine], views, **quick)
        undo.click(self.undo, [current, mine], views, **quick)
        for event in (rename.click, text.submit):
            event(self.name_class, [current, mine, given, text], [*views, given, text], **quick)
        teach.click(self.teach, [mine, others], [outcome, model], concurrency_limit=1)
        fetch.click(self.files, mine, files)


def change(current: Correcting | None, visitor: Visitor, step: Callable) -> tuple:
    """Apply a function to the image, save what it changed, and show it."""
    if current is None:
        raise in_page(NOTHING)
    try:
        new = step(current)
    except UserError as error:
        raise in_page(str(error)) from error
    if new.corrections is not current.corrections:
        visitor.save(new.key, new.image, new.corrections)
    return new, pad(new), describe(new)


def class_choices(current: Correcting) -> dict:
    """The update of the radio buttons."""
    return gr.update(choices=[LOOK, *current.corrections.state().classes], value=LOOK)


def label_of(current: Correcting | None, name: str) -> int | None:
    """The label of a radio button; None for :data:`LOOK`."""
    names = current.corrections.state().classes if current else ()
    return names.index(name) if name in names else None
