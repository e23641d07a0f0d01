"""The app, a page in the browser: an image in, outlined cells, counts and files out.

The model runs once for each image; classes and threshold then choose among its cells. Gradio is an optional requirement
(requirements-app.txt), so nothing else imports this module.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import numpy as np

from cellseg_mm.export import export_cells
from cellseg_mm.images import read_overview
from cellseg_mm.inference import CellInferencer
from cellseg_mm.structures import Cells
from cellseg_mm.utils import UserError
from cellseg_mm.visualization.overlay import draw_cells

TITLE = 'Cells in tissue'
EMPTY = 'Drop an image, or choose a sample.'
FORMATS = ('geojson', 'csv', 'labels')
LOWEST_SCORE = 0.05  # the lower end of the slider; the model drops cells below it
MAX_UPLOAD = 100 * 2**20  # bytes
MAX_PIXELS = 25_000_000
THUMBNAIL = 300  # px of a sample's longer side; browsers cannot show TIFF
KEEP_SECONDS = 3600  # for a visitor's picture and files, after the last use
FONT = ['system-ui', 'sans-serif']  # the default theme would fetch its fonts


@dataclass(frozen=True)
class Segmented:
    """An image with all cells that the model found in it.

    Attributes:
        name: Name of the file, without the suffix.
        image: (H, W, 3) uint8 RGB.
        source: The image source, for measurements.
        cells: Cells of all classes, from :data:`LOWEST_SCORE` up.
        folder: Folder of this visitor's files.
    """

    name: str
    image: np.ndarray
    source: object
    cells: Cells
    folder: str

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def segment(path: str, detector: CellInferencer, folder: Path) -> Segmented:
    """Run the model on a file; the visitor's own folder is made in ``folder``.

    Raises:
        UserError: If the file is not an image, or too large for the page.
    """
    source = detector.open(path)
    if source.height * source.width > MAX_PIXELS:
        raise UserError(
            f'{Path(path).name}: {source.width} x {source.height} px; this page takes at most '
            f'{MAX_PIXELS / 1e6:.0f} megapixels, tools/predict.py takes any size'
        )
    image = source.read(0, 0, source.width, source.height)
    return Segmented(Path(path).stem, image, source, detector(source), tempfile.mkdtemp(dir=folder))


def choose(cells: Cells, labels: Sequence, score_thr: float) -> Cells:
    """The cells of some classes from a score up.

    Args:
        cells (Cells): All cells of an image.
        labels (Sequence[int]): Class indices.
        score_thr (float): 0..1.
    """
    return cells.select(np.isin(cells.labels, np.asarray(labels, np.int64)) & (cells.scores >= score_thr))


def count_rows(cells: Cells, classes: Sequence) -> list:
    """Rows [class, cells, share in percent, mean area in px, mean score] of each class with cells, and of all."""
    areas = cells.runs.areas(len(cells))
    rows = []
    for name, chosen in [
        *((name, cells.labels == label) for label, name in enumerate(classes)),
        ('all', np.ones(len(cells), bool)),
    ]:
        count = int(chosen.sum())
        if count or name == 'all':
            mean = [round(float(values[chosen].mean()), 2) if count else None for values in (areas, cells.scores)]
            rows.append([name, count, round(100 * count / max(len(cells), 1), 1), *mean])
    return rows


def build_app(detector: CellInferencer, samples: Sequence, score_thr: float, folder: Path) -> gr.Blocks:
    """The page; :func:`serve` starts it.

    Args:
        detector (CellInferencer): The model, with the score threshold :data:`LOWEST_SCORE`.
        samples (Sequence[Path]): Images that the page offers.
        score_thr (float): Start of the slider.
        folder (Path): Folder of all files from and for visitors; remove it when the page is closed.

    Raises:
        UserError: If a sample cannot be read.
    """
    os.environ['GRADIO_TEMP_DIR'] = str(folder)  # Gradio would leave the images in the machine's /tmp
    classes = list(detector.classes)

    def on_image(path: str | None, old: Segmented | None) -> Segmented:
        if path is None:
            return old
        try:
            new = segment(path, detector, folder)
        except UserError as error:
            raise in_page(str(error).replace(path, Path(path).name)) from error
        if old is not None:
            old.remove()
        return new

    def on_sample(event: gr.SelectData) -> str:
        sample = samples[event.index]
        try:  # a copy, because Gradio serves files only from this folder, and removes them after a while
            return str(shutil.copyfile(sample, Path(tempfile.mkdtemp(dir=folder)) / sample.name))
        except OSError as error:
            raise in_page(f'{sample.name}: {error.strerror}') from error

    def on_choice(current: Segmented | None, chosen: list, threshold: float) -> tuple:
        if current is None:
            return None, [], EMPTY, None
        labels = [classes.index(name) for name in chosen]
        cells = choose(current.cells, labels, threshold)
        height, width = current.image.shape[:2]
        notes = (current.source.note, detector.describe_size(current.source))
        note = ''.join(f' {text}.' for text in notes if text)
        status = f'**{len(cells):,} cells** in {current.name}, {width} x {height} px, at score {threshold:.2f}.{note}'
        # no files: those of another choice would be misleading
        return draw_cells(current.image, cells, classes), count_rows(cells, classes), status, None

    def on_files(current: Segmented | None, chosen: list, threshold: float) -> list:
        if current is None:
            raise in_page(f'No image yet. {EMPTY}')
        cells = choose(current.cells, [classes.index(name) for name in chosen], threshold)
        out = Path(tempfile.mkdtemp(dir=current.folder))
        export_cells([cells], current.source, out, current.name, FORMATS, classes)
        return [str(path) for path in sorted(out.iterdir())]

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)) as app:
        gr.Markdown(f'# {TITLE}\nOutlines, counts and files of the cells in your image. It stays on this machine.')
        state = gr.State(None, time_to_live=KEEP_SECONDS, delete_callback=lambda old: old and old.remove())
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
                threshold = gr.Slider(
                    LOWEST_SCORE, 0.95, score_thr, step=0.05, label='Score threshold', elem_id='threshold'
                )
                shown = gr.CheckboxGroup(classes, value=classes, label='Classes', elem_id='classes')
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
        gallery.select(on_sample, None, upload)
        upload.change(on_image, [upload, state], state, concurrency_limit=1).success(on_choice, choice, views)
        for control in (threshold, shown):
            control.change(on_choice, choice, views, trigger_mode='always_last', show_progress='hidden')
        make.click(on_files, choice, files)
    return app


def in_page(message: str) -> gr.Error:
    """A message that stays in the page until the visitor closes it."""
    return gr.Error(message, duration=None, print_exception=False)


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
