"""The part Correct and teach: give cells other classes, delete and add some, teach the model, see whether it helped."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr

from cellseg_mm.images import open_image
from cellseg_mm.utils import UserError

from .correct import HELP, NOTHING, Correcting, describe, on_box, on_key, on_point, pad
from .messages import errors_in_page, in_page
from .segmented import Segmented, choose
from .visitor import Visitor

# Text and value of the radio button that gives no class. The value of a class is its label, in digits, not its name.
LOOK = 'only choose it', '-'
RELOAD = 'Reload the page: the app was started after it was opened, or has not answered yet. What you saved is kept.'
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
        visitors (Callable): ``name -> Visitor``.
        root (Path): The folder of all visitors' corrections.
        folder (Path): The folder from which the page may send files.
        see (Callable): ``(image, old Segmented, visitor) -> Segmented``.
    """

    def __init__(self, visitors: Callable, root: Path, folder: Path, see: Callable) -> None:
        self._visitors, self._root, self._folder, self._see = visitors, root, folder, see

    @contextlib.contextmanager
    def _errors(self, visitor: Visitor | None) -> Iterator:
        """Errors in the page; one if the visitor is not known, as in a page that was opened before the app's start."""
        if visitor is None:
            raise in_page(RELOAD)
        with errors_in_page(self._root):
            yield

    def load(self, name: str) -> tuple:
        """The visitor whose name the browser kept, or a new one."""
        visitor = self._visitors(name)
        return visitor.name, visitor, gr.update(choices=visitor.keys())

    def begin(self, seen: Segmented | None, chosen: list, threshold: float, visitor: Visitor | None) -> tuple:
        """Show the image above, with the corrections that were made before."""
        if seen is None:
            return None, pad(None), describe(None), gr.update(), gr.update()
        labels = [label for label, name in enumerate(seen.classes) if name in chosen]
        cells = choose(seen.cells, labels, threshold)
        with self._errors(visitor):
            key, corrections = visitor.begin(seen.name, seen.image, cells, seen.classes)
        current = Correcting(key, seen.image, corrections, pixel_size=seen.source.pixel_size)
        return current, pad(current), describe(current), class_choices(current), gr.update(choices=visitor.keys())

    def _change(self, current: Correcting | None, visitor: Visitor | None, step: Callable) -> tuple:
        """Apply a function to the image, save what it changed, and show it."""
        with self._errors(visitor):
            if current is None:
                raise UserError(NOTHING)
            new = step(current)
            if new.corrections is not current.corrections:
                visitor.save(new.key, new.source, current.corrections, new.corrections)
        return new, pad(new), describe(new)

    def point(self, current: Correcting | None, visitor: Visitor | None, given: str, event: gr.EventData) -> tuple:
        """A click or a drawn box."""
        data, label = event._data or {}, label_of(current, given)
        if data.get('box'):
            return self._change(current, visitor, lambda image: on_box(image, data['box'], label, visitor.detector))
        return self._change(current, visitor, lambda image: on_point(image, data['point'], label))

    def press(self, current: Correcting | None, visitor: Visitor | None, given: str, event: gr.EventData) -> tuple:
        """A key on the picture."""
        label = label_of(current, given)
        return self._change(current, visitor, lambda image: on_key(image, str(event._data['key']), label))

    def undo(self, current: Correcting | None, visitor: Visitor | None) -> tuple:
        """The button Undo."""
        return self._change(current, visitor, lambda image: on_key(image, 'u'))

    def name_class(self, current: Correcting | None, visitor: Visitor | None, picked: str, name: str) -> tuple:
        """Rename the picked class, or add one if none is picked."""
        label = label_of(current, picked)
        step = dict(kind='class', name=name) if label is None else dict(kind='rename', label=label, name=name)
        new, *views = self._change(
            current, visitor, lambda image: replace(image, corrections=image.corrections.after(**step))
        )
        return new, *views, class_choices(new), ''

    def teach(self, visitor: Visitor | None, others: bool, progress: gr.Progress = gr.Progress()) -> tuple:  # noqa: B008
        """Teach, and say whether it helped."""
        with self._errors(visitor):
            words = visitor.teach(others, lambda images: progress.tqdm(images, desc='Seeing cells'))
            return f'{words}\nThe next image that you open is named by it.', self._copies([visitor.taught])

    def reopen(self, key: str | None, old: Segmented | None, visitor: Visitor | None) -> Segmented:
        """Open an image that was corrected before."""
        with self._errors(visitor):
            if not key:
                raise UserError('Pick a corrected image first.')
            return self._see(open_image(visitor.image_file(key)), old, visitor)

    def files(self, visitor: Visitor | None) -> list:
        """All corrected images with their files."""
        with self._errors(visitor):
            found = [*visitor.folder.glob('images/*'), *visitor.folder.glob('coco/*')]
            if not found:
                raise UserError('Nothing is corrected yet.')
            return self._copies(sorted(found))

    def _copies(self, paths: list) -> list:
        out = tempfile.mkdtemp(dir=self._folder)
        return [shutil.copy(path, out) for path in paths]

    def build(self, app: gr.Blocks, mine: gr.State, choice: list, segmented: list, show: Callable) -> None:
        """Build this part within the ``with`` block of the page.

        Args:
            app (Blocks): The page.
            mine (State): The :class:`Visitor`.
            choice (list): The components of the image that is seen, its classes and its threshold.
            segmented (list): The events after which a new image is seen.
            show (Callable): Chains to an event what shows a new image in the page.
        """
        # with a random key, Gradio's default, no browser would be known after a restart
        name = gr.BrowserState('', storage_key=STORAGE, secret=STORAGE)
        current = gr.State(None)
        gr.Markdown('## Correct and teach')
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                given = gr.Radio([LOOK], value=LOOK[1], label='A click gives the cell the class', elem_id='given')
                with gr.Row():
                    text = gr.Textbox(label='Class name', max_lines=1, elem_id='class-name')
                    rename = gr.Button('Add, or rename the picked one', elem_id='rename')
                undo = gr.Button('Undo', elem_id='undo')
                others = gr.Checkbox(True, label='Cells that I left as they are teach too', elem_id='others')
                teach = gr.Button('Teach the model', variant='primary', elem_id='teach')
                outcome = gr.Markdown(elem_id='outcome')
                model = gr.File(label='Your model', interactive=False, file_count='multiple', elem_id='model')
                earlier = gr.Dropdown([], label='Corrected images', elem_id='earlier')
                # a button, because the list's own event also comes when Tab leaves it
                reopen = gr.Button('Open the picked one', elem_id='reopen')
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
        reopened = show(reopen.click(self.reopen, [earlier, choice[0], mine], choice[0], concurrency_limit=1))
        for seen in (*segmented, reopened):
            seen.success(**begin)
        for control in choice[1:]:
            control.change(**begin, trigger_mode='always_last')
        # whoever types fast must lose no key, and changes come one after the other
        quick = dict(show_progress='hidden', trigger_mode='multiple', concurrency_limit=1, concurrency_id='correct')
        view.click(self.point, [current, mine, given], views, **quick)
        view.submit(self.press, [current, mine, given], views, **quick)
        undo.click(self.undo, [current, mine], views, **quick)
        for event in (rename.click, text.submit):
            event(self.name_class, [current, mine, given, text], [*views, given, text], **quick)
        teach.click(self.teach, [mine, others], [outcome, model], concurrency_limit=1)
        fetch.click(self.files, mine, files)


def class_choices(current: Correcting) -> dict:
    """The update of the radio buttons."""
    names = current.corrections.state().classes
    return gr.update(choices=[LOOK, *((name, str(label)) for label, name in enumerate(names))], value=LOOK[1])


def label_of(current: Correcting | None, picked: str | None) -> int | None:
    """The label of the picked radio button; None for :data:`LOOK`, and without an image."""
    count = len(current.corrections.state().classes) if current else 0
    return int(picked) if picked in map(str, range(count)) else None
