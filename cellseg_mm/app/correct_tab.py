"""The tab Correct: give cells other classes, delete and add some, teach the model, and see whether it helped."""

import shutil
import tempfile
from pathlib import Path

import gradio as gr

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
.pad img { max-width: 100%; cursor: crosshair; user-select: none; }
.pad .box { position: absolute; display: none; border: 2px dashed #fff; box-shadow: 0 0 0 1px #000;
  pointer-events: none; }
.keys { margin-top: 8px; } .keys .key { margin-right: 16px; white-space: nowrap; }
.keys i { display: inline-block; width: 12px; height: 12px; border: 1px solid #000; margin-right: 4px; }
"""


def build_correct(
    app: gr.Blocks,
    upload: gr.File,
    mine: gr.State,
    choice: list,
    segmented: object,
    detector: object,
    checkpoint: str,
    root: Path,
    folder: Path,
) -> None:
    """Build the tab within a ``with gr.Tabs()`` block.

    Args:
        app (Blocks): The page.
        upload (File): Where an image comes in.
        mine (State): The :class:`Visitor`.
        choice (list): The components of the image that is seen, its classes and its threshold.
        segmented (object): The event after which a new image is seen.
        detector (object): The model, a :class:`CellInferencer`.
        checkpoint (str): Its file.
        root (Path): The folder of all visitors' corrections.
        folder (Path): The folder from which the page may send files.
    """

    def on_load(name: str) -> tuple:
        visitor = Visitor(root, name, checkpoint)
        return visitor.name, visitor, gr.update(choices=visitor.keys())

    def on_begin(current: Segmented | None, chosen: list, threshold: float, visitor: Visitor) -> tuple:
        if current is None:
            return None, *shown(None), gr.update()
        labels = [label for label, name in enumerate(current.classes) if name in chosen]
        cells = choose(current.cells, labels, threshold)
        key, corrections = visitor.begin(current.name, current.image, cells, current.classes)
        new = Correcting(key, current.image, corrections)
        return new, *shown(new), choices_of(new)

    def shown(current: Correcting | None) -> tuple:
        return pad(current), describe(current)

    def choices_of(current: Correcting | None) -> dict:
        names = list(current.corrections.state().classes) if current else []
        return gr.update(choices=[LOOK, *names], value=LOOK)

    def change(current: Correcting | None, visitor: Visitor, step: object) -> tuple:
        """Apply a function to the image, save what it changed, and show it."""
        if current is None:
            raise in_page(NOTHING)
        try:
            new = step(current)
        except UserError as error:
            raise in_page(str(error)) from error
        if new.corrections is not current.corrections:
            visitor.save(new.key, new.image, new.corrections)
        return new, *shown(new)

    def label_of(current: Correcting | None, name: str) -> int | None:
        names = list(current.corrections.state().classes) if current else []
        return names.index(name) if name in names else None

    def on_pointer(current: Correcting | None, visitor: Visitor, name: str, event: gr.EventData) -> tuple:
        data, label = event._data or {}, label_of(current, name)
        if data.get('box'):
            find = (visitor.detector if visitor.taught else detector).cell_in_box
            return change(current, visitor, lambda image: on_box(image, data['box'], label, find))
        if not data.get('point'):
            return current, *shown(current)
        return change(current, visitor, lambda image: on_point(image, data['point'], label))

    def on_press(current: Correcting | None, visitor: Visitor, event: gr.EventData) -> tuple:
        key = str((event._data or {}).get('key', ''))
        return change(current, visitor, lambda image: on_key(image, key))

    def on_class(current: Correcting | None, visitor: Visitor, old: str, name: str) -> tuple:
        """Rename the class that is picked, or add one if none is."""
        label = label_of(current, old)
        step = dict(kind='class', name=name) if label is None else dict(kind='rename', label=label, name=name)
        add = lambda image: Correcting(image.key, image.image, image.corrections.after(**step), image.chosen)  # noqa: E731
        new, *views = change(current, visitor, add)
        return new, *views, choices_of(new), ''

    def on_teach(visitor: Visitor, others: bool, progress: gr.Progress = gr.Progress()) -> tuple:  # noqa: B008
        try:
            words = visitor.teach(others, lambda images: progress.tqdm(images, desc='Seeing cells'))
        except UserError as error:
            raise in_page(str(error)) from error
        return f'{words} The next image that you open is named by it.', copies([visitor.taught])

    def on_open(visitor: Visitor, key: str | None) -> str | None:
        try:
            return copies([visitor.image_file(key)])[0] if key else None
        except UserError as error:
            raise in_page(str(error)) from error

    def copies(paths: list) -> list:
        """Copies where the page may send them from."""
        out = tempfile.mkdtemp(dir=folder)
        return [shutil.copy(path, out) for path in paths]

    def on_files(visitor: Visitor) -> list:
        found = [*visitor.folder.glob('images/*'), *visitor.folder.glob('coco/*')]
        if not found:
            raise in_page('Nothing is corrected yet.')
        return copies(sorted(found))

    name = gr.BrowserState('', storage_key=STORAGE)
    current = gr.State(None)
    with gr.Tab('Correct and teach', id='correct') as tab, gr.Row():
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
    app.load(on_load, name, [name, mine, earlier])
    begin = dict(fn=on_begin, inputs=[*choice, mine], outputs=[*views, given])
    segmented.success(**begin, show_progress='hidden')
    tab.select(**begin, show_progress='hidden')
    quiet = dict(show_progress='hidden', concurrency_limit=None)
    view.click(on_pointer, [current, mine, given], views, **quiet)
    view.submit(on_press, [current, mine], views, **quiet)
    undo.click(
        lambda image, visitor: change(image, visitor, lambda entry: on_key(entry, 'u')), [current, mine], views, **quiet
    )
    for event in (rename.click, text.submit):
        event(on_class, [current, mine, given, text], [*views, given, text], **quiet)
    teach.click(on_teach, [mine, others], [outcome, model], concurrency_limit=1)
    earlier.input(on_open, [mine, earlier], upload)
    fetch.click(on_files, mine, files)
