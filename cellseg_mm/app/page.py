"""The page: an image in, outlined cells, counts and files out; and a part to correct cells and teach the model.

The model runs once for each image; classes and threshold then choose among its cells.
"""

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr

from cellseg_mm.export import export_cells
from cellseg_mm.images import read_overview
from cellseg_mm.inference import CellInferencer
from cellseg_mm.utils import UserError
from cellseg_mm.visualization.overlay import draw_cells

from .correct_part import CorrectPart
from .messages import errors_in_page, in_page
from .segmented import LOWEST_SCORE, Segmented, choose, count_rows, segment
from .visitor import Visitor

TITLE = 'Cells in tissue'
EMPTY = 'Drop an image, or choose a sample.'
FORMATS = ('geojson', 'csv', 'labels')
MAX_UPLOAD = 100 * 2**20  # bytes
THUMBNAIL = 300  # px of a sample's longer side; browsers cannot show TIFF
KEEP_SECONDS = 3600  # for a visitor's picture and files, after the last use
FONT = ['system-ui', 'sans-serif']  # the default theme would fetch its fonts


def build_app(
    detector: CellInferencer,
    samples: Sequence,
    score_thr: float,
    folder: Path,
    corrections: Path | None = None,
    checkpoint: str | None = None,
    load: Callable | None = None,
) -> gr.Blocks:
    """The page; :func:`serve` starts it.

    Args:
        detector (CellInferencer): The model, with the score threshold :data:`LOWEST_SCORE`.
        samples (Sequence[Path]): Images that the page offers.
        score_thr (float): Start of the slider.
        folder (Path): Folder of all files from and for visitors; remove it when the page is closed.
        corrections (Path | None): Folder in which corrections and taught models stay; None for one in ``folder``.
        checkpoint (str | None): The model's file, which can be taught; None leaves out the part Correct and teach.
        load (Callable | None): ``(checkpoint file) -> CellInferencer`` with the options of ``detector``, for taught
            models; by default with none but the score threshold.

    Raises:
        UserError: If a sample cannot be read.
    """
    os.environ['GRADIO_TEMP_DIR'] = str(folder)  # Gradio would leave the images in the machine's /tmp
    teachable, root = checkpoint is not None, corrections or folder / 'corrections'

    def see(image: object, old: Segmented | None, visitor: Visitor | None, pixel_size: str = '') -> Segmented:
        new = segment(image, visitor.detector if visitor else detector, folder, pixel_size)
        if old is not None:
            old.remove()
        return new

    def on_image(path: str | None, old: Segmented | None, visitor: Visitor | None, pixel_size: str) -> Segmented:
        if path is None:  # a pixel size, and no image to which it applies
            return old
        with errors_in_page(Path(path).parent, root):
            return see(path, old, visitor, pixel_size)

    def on_sample(event: gr.SelectData) -> str:
        sample = samples[event.index]
        try:  # a copy, because Gradio serves files only from this folder, and removes them after a while
            return str(shutil.copyfile(sample, Path(tempfile.mkdtemp(dir=folder)) / sample.name))
        except OSError as error:
            raise in_page(f'{sample.name}: {error.strerror}') from error

    def on_new(current: Segmented | None) -> dict:
        names = list(current.classes if current else detector.classes)
        return gr.update(choices=names, value=names)

    def on_choice(current: Segmented | None, chosen: list, threshold: float) -> tuple:
        if current is None:
            return None, [], EMPTY, None
        classes = list(current.classes)
        cells = choose(current.cells, [classes.index(name) for name in chosen if name in classes], threshold)
        height, width = current.image.shape[:2]
        note = f' {current.note}.' if current.note else ''
        size = f'{width} x {height} px'
        if current.source.pixel_size:
            size += f', {current.source.pixel_size:.4g} um a px'
        status = f'**{len(cells):,} cells** in {current.name}, {size}, at score {threshold:.2f}.{note}'
        # no files: those of another choice would be misleading
        return draw_cells(current.image, cells, classes), count_rows(cells, classes), status, None

    def on_files(current: Segmented | None, chosen: list, threshold: float) -> list:
        if current is None:
            raise in_page(f'No image yet. {EMPTY}')
        classes = list(current.classes)
        cells = choose(current.cells, [classes.index(name) for name in chosen if name in classes], threshold)
        out = Path(tempfile.mkdtemp(dir=current.folder))
        export_cells([cells], current.source, out, current.name, FORMATS, classes)
        return [str(path) for path in sorted(out.iterdir())]

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)) as app:
        gr.Markdown(f'# {TITLE}\nOutlines, counts and files of the cells in your image. It stays on this machine.')
        state = gr.State(None, time_to_live=KEEP_SECONDS, delete_callback=lambda old: old and old.remove())
        mine = gr.State(None)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                upload = gr.File(label='Image: PNG, JPEG, TIFF or SVS', elem_id='upload', height=120)
                gallery = gr.Gallery(
                    [(read_overview(detector.open(path), THUMBNAIL)[0], path.stem) for path in samples],
                    label='Samples',
                    columns=3,
                    height=160,
                    allow_preview=False,
                    visible=bool(samples),
                    elem_id='samples',
                )
                pixel_size = gr.Textbox(  # an empty gr.Number is 0
                    label='Pixel size (um)',
                    info='Of every uploaded image; empty: what each file says. Enter applies it.',
                    max_lines=1,
                    elem_id='pixel-size',
                )
                threshold = gr.Slider(
                    LOWEST_SCORE, 0.95, score_thr, step=0.05, label='Score threshold', elem_id='threshold'
                )
                names = list(detector.classes)
                shown = gr.CheckboxGroup(names, value=names, label='Classes', elem_id='classes')
                make = gr.Button('Make files: GeoJSON, CSV, labels', elem_id='make')
                files = gr.File(
                    label='Files of what is shown', interactive=False, file_count='multiple', elem_id='files'
                )
            with gr.Column(scale=2, min_width=320):
                status = gr.Markdown(EMPTY, elem_id='status')
                picture = gr.Image(
                    show_label=False, interactive=False, buttons=['fullscreen', 'download'], elem_id='picture'
                )
                table = gr.Dataframe(
                    headers=['class', 'cells', '%', 'mean area px', 'mean score'],
                    interactive=False,
                    label='Counts',
                    elem_id='counts',
                )
        choice, views = [state, shown, threshold], [picture, table, status, files]

        def show(event: object) -> object:
            """What follows an event that has put a new image into ``state``."""
            return event.success(on_new, state, shown).success(on_choice, choice, views)

        # not upload.change: it also comes after a clear, and an upload meanwhile would be dropped
        see_image = dict(fn=on_image, inputs=[upload, state, mine, pixel_size], outputs=state, concurrency_limit=1)
        sample = gallery.select(on_sample, None, upload)
        segmented = [
            show(event)
            for event in (gr.on([upload.upload, pixel_size.submit], **see_image), sample.success(**see_image))
        ]
        for control in (threshold, shown):
            control.change(on_choice, choice, views, trigger_mode='always_last', show_progress='hidden')
        make.click(on_files, choice, files)
        if teachable:
            load = load or functools.partial(CellInferencer, score_thr=LOWEST_SCORE)
            visitors = functools.partial(Visitor, root, checkpoint=checkpoint, detector=detector, load=load)
            part = CorrectPart(visitors, root, folder, see)
            part.build(app, mine, choice, segmented, show)
    return app


def serve(app: gr.Blocks, host: str, port: int | None) -> str:
    """Start the page in the background; it fetches nothing from elsewhere and sends nothing.

    Returns:
        str: Its address.

    Raises:
        UserError: If the port cannot be used.
    """
    theme = gr.themes.Default(font=FONT, font_mono=['ui-monospace', 'monospace'])
    try:
        _, url, _ = app.launch(
            server_name=host,
            server_port=port,
            theme=theme,
            share=False,
            ssr_mode=False,
            max_file_size=MAX_UPLOAD,
            footer_links=[],
            prevent_thread_lock=True,
            quiet=True,
        )
    except OSError as error:
        raise UserError(
            f'--port {port}: taken or not allowed; give another port, or leave out --port for the first free one'
        ) from error
    return url
