"""What one visitor has corrected and taught: in a folder of their own, written at once."""

import hashlib
import re
import uuid
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from mmengine.runner.checkpoint import save_checkpoint

from cellseg_mm.export import export_cells
from cellseg_mm.images import as_source
from cellseg_mm.inference import CellInferencer
from cellseg_mm.structures import Cells
from cellseg_mm.teaching import LabelledImage, teach
from cellseg_mm.teaching.corrections import Corrections, names_of
from cellseg_mm.utils import UserError, read_json, write_atomically, write_json

from .segmented import LOWEST_SCORE

VISITOR = re.compile(r'[0-9a-f]{32}')  # the form of a visitor's name: the browser keeps it, so it is not trusted


def new_name() -> str:
    """A name for a visitor that nobody guesses."""
    return uuid.uuid4().hex


class Visitor:
    """A visitor's corrected images and taught model.

    Files in the folder: ``images/KEY.png`` and ``images/KEY.geojson``, which QuPath and tools/prepare_data.py read,
    ``coco/KEY_coco.json``, ``steps/KEY.json``, from which all of it comes, and ``taught.pth``. KEY is the image's name
    and the beginning of the SHA-256 of its pixels.

    Args:
        root (Path): The folder of all visitors.
        name (str): Of the visitor, see :data:`VISITOR`; another one than of this form gets a new name.
        checkpoint (str): The file that is taught.

    Attributes:
        name (str): As above.
        folder (Path): The visitor's.
    """

    def __init__(self, root: Path, name: str | None, checkpoint: str) -> None:
        self.name = name if name and VISITOR.fullmatch(name) else new_name()
        self.folder = root / self.name
        self._checkpoint = checkpoint
        self._detector = None

    @property
    def taught(self) -> Path | None:
        """The visitor's own checkpoint, None before the first teaching."""
        path = self.folder / 'taught.pth'
        return path if path.exists() else None

    def keys(self) -> list:
        """The corrected images, the last one first."""
        files = (self.folder / 'steps').glob('*.json')
        return [path.stem for path in sorted(files, key=lambda path: -path.stat().st_mtime)]

    def image_file(self, key: str) -> Path:
        """The pixels of a corrected image.

        Raises:
            UserError: If the image is not one of the visitor's.
        """
        if key not in self.keys():
            raise UserError(f'{key}: not one of your corrected images')
        return self.folder / 'images' / f'{key}.png'

    def begin(self, name: str, image: np.ndarray, cells: Cells, classes: tuple) -> tuple:
        """The corrections of an image: those that were made before, or none yet.

        Args:
            name (str): Of the image.
            image (ndarray): (H, W, 3) uint8 RGB.
            cells (Cells): What the model found and the page shows.
            classes (tuple[str]): Names of their classes.

        Returns:
            tuple: The key, and the :class:`Corrections`.
        """
        digest = hashlib.sha256(np.ascontiguousarray(image)).hexdigest()[:12]
        earlier = [key for key in self.keys() if key.endswith(digest)]
        if earlier:
            return earlier[0], self.corrections(earlier[0])
        stem = re.sub(r'[^\w.-]+', '_', name).strip('._-')[:60] or 'image'
        return f'{stem}-{digest}', Corrections(cells, tuple(classes))

    def corrections(self, key: str) -> Corrections:
        """The stored corrections of an image."""
        return Corrections.from_dict(read_json(self.folder / f'steps/{key}.json', 'it holds your corrections'))

    def save(self, key: str, image: np.ndarray, corrections: Corrections) -> None:
        """Write an image's corrections in all forms. The steps come first: the rest follows from them."""
        for name in ('images', 'coco', 'steps'):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f'steps/{key}.json', corrections.to_dict())
        pixels = self.folder / f'images/{key}.png'
        if not pixels.exists():
            _, encoded = cv2.imencode('.png', image[..., ::-1])
            write_atomically(pixels, encoded.tobytes())
        state, source = corrections.state(), as_source(image)
        export_cells([state.left()], source, self.folder / 'images', key, ['geojson'], state.classes)
        export_cells([state.left()], source, self.folder / 'coco', key, ['coco'], state.classes)

    def teach(self, with_others: bool, progress: Callable = iter) -> str:
        """Teach the model the cells of all corrected images; the result is :attr:`taught`.

        Args:
            with_others (bool): Whether cells that were neither corrected nor deleted teach too, as they are.
            progress (Callable): See :func:`cellseg_mm.teaching.teach`.

        Returns:
            str: Whether it helped, in words.

        Raises:
            UserError: If the cells are of fewer than two classes.
        """
        corrected = {key: self.corrections(key) for key in self.keys()}
        chosen = {}
        for key, corrections in corrected.items():
            state = corrections.state()
            teaching = state.alive & (state.corrected | with_others)
            cells = state.cells.select(teaching & (state.cells.runs.areas(len(state.cells)) > 0))
            chosen[key] = (cells, [state.classes[label] for label in cells.labels])
        taught = {name for _, names in chosen.values() for name in names}
        classes = [name for name in names_of(list(corrected.values())) if name in taught]
        if len(classes) < 2:
            found = f'{len(classes)} class has' if len(classes) == 1 else 'no class has'
            raise UserError(f'Teaching takes corrected cells of two classes or more; so far {found} any.')
        images = [
            LabelledImage(
                self.image_file(key),
                cells.boxes().astype(np.float32),
                np.array([classes.index(name) for name in names], np.int64),
            )
            for key, (cells, names) in chosen.items()
            if len(cells)
        ]
        content, comparison = teach(self._checkpoint, images, classes, progress)
        save_checkpoint(content, str(self.folder / 'taught.pth'))
        self._detector = None
        count = sum(len(image.labels) for image in images)
        if comparison is None:
            return f'Taught with {count:,} cells. Not enough to hold some out and see whether it helped.'
        return f'Taught with {count:,} cells. {comparison.in_words()}'

    @property
    def detector(self) -> CellInferencer:
        """The visitor's own model, after the first teaching, with the score threshold :data:`LOWEST_SCORE`."""
        if self._detector is None:
            self._detector = CellInferencer(self.taught, score_thr=LOWEST_SCORE)
        return self._detector
