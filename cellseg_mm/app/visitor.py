"""What one visitor has corrected and taught: in a folder of their own, written at once."""

import hashlib
import io
import re
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from mmengine.runner.checkpoint import save_checkpoint

from cellseg_mm.export import export_cells
from cellseg_mm.images import ArraySource, is_same_size, open_image
from cellseg_mm.inference import CellInferencer
from cellseg_mm.structures import Cells
from cellseg_mm.teaching import FeatureMemory, LabelledImage, teach
from cellseg_mm.teaching.corrections import Corrections, names_of
from cellseg_mm.utils import UserError, read_json, write_atomically, write_json

VISITOR = re.compile(r'[0-9a-f]{32}')  # the form of a visitor's name: the browser keeps it, so it is not trusted


def new_name() -> str:
    """A name for a visitor that nobody guesses."""
    return uuid.uuid4().hex


class Visitor:
    """A visitor's corrected images and taught model.

    Files in the folder: ``images/KEY.tif``, which states the pixel size where it is known, and ``images/KEY.geojson``,
    which QuPath and tools/prepare_data.py read, ``coco/KEY_coco.json``, ``steps/KEY.json``, from which all of it comes,
    and ``taught.pth``. KEY is the image's name and the beginning of the SHA-256 of its pixels.

    Args:
        root (Path): The folder of all visitors.
        name (str): Of the visitor, see :data:`VISITOR`; another one than of this form gets a new name.
        checkpoint (str): The file that is taught.
        detector (CellInferencer): Its model.
        load (Callable): ``(checkpoint file) -> CellInferencer`` with the options of ``detector``.

    Attributes:
        name (str): As above.
        folder (Path): The visitor's.
    """

    def __init__(self, root: Path, name: str | None, checkpoint: str, detector: CellInferencer, load: Callable) -> None:
        self.name = name if name and VISITOR.fullmatch(name) else new_name()
        self.folder = root / self.name
        self._checkpoint, self._load = checkpoint, load
        self._base, self._see = detector, FeatureMemory(detector)
        self._taught = None, None

    @property
    def taught(self) -> Path:
        """The visitor's own checkpoint; it exists after the first teaching."""
        return self.folder / 'taught.pth'

    @property
    def detector(self) -> CellInferencer:
        """The visitor's own model after the first teaching, else the one that is taught.

        Raises:
            UserError: If its file is damaged.
        """
        try:
            changed = self.taught.stat().st_mtime_ns
        except OSError:
            return self._base
        if self._taught[0] != changed:  # also if the same visitor has taught it in another tab
            try:
                self._taught = changed, self._load(self.taught)
            except UserError as error:
                raise UserError(f'{error}; teach again to replace your model') from error
        return self._taught[1]

    def keys(self) -> list:
        """The corrected images, the last one first."""
        files = (self.folder / 'steps').glob('*.json')
        return [path.stem for path in sorted(files, key=lambda path: -path.stat().st_mtime)]

    def image_file(self, key: str) -> Path:
        """The pixels of a corrected image, in true RGB.

        Raises:
            UserError: If the image is not one of the visitor's.
        """
        if key not in self.keys():
            raise UserError(f'{key}: not one of your corrected images')
        return self.folder / f'images/{key}.tif'

    def begin(self, name: str, image: np.ndarray, cells: Cells, classes: tuple) -> tuple:
        """The corrections of an image: those that were made before, or none yet.

        Args:
            name (str): Of the image.
            image (ndarray): (H, W, 3) uint8 RGB.
            cells (Cells): What the model found and the page shows.
            classes (tuple[str]): Names of their classes.

        Returns:
            tuple: The key, and the :class:`Corrections`.

        Raises:
            UserError: If earlier corrections of the image cannot be read.
        """
        digest = hashlib.sha256(np.ascontiguousarray(image)).hexdigest()[:12]
        earlier = [key for key in self.keys() if key.endswith(digest)]
        if not earlier:
            stem = re.sub(r'[^\w.-]+', '_', name).strip('._-')[:60] or 'image'
            return f'{stem}-{digest}', Corrections(cells, tuple(classes))
        corrections = self.corrections(earlier[0])
        if (corrections.found.height, corrections.found.width) != image.shape[:2]:
            raise UserError(f'{self._steps(earlier[0])}: holds corrections of an image of another size; move it away')
        return earlier[0], corrections

    def _steps(self, key: str) -> Path:
        return self.folder / f'steps/{key}.json'

    def corrections(self, key: str) -> Corrections:
        """The stored corrections of an image.

        Raises:
            UserError: If they cannot be read.
        """
        content = read_json(self._steps(key), 'it holds your corrections; move it away to correct the image anew')
        try:
            return Corrections.from_dict(content)
        except UserError as error:
            raise UserError(f'{self._steps(key)}: {error}; move it away to correct the image anew') from error

    def save(self, key: str, source: ArraySource, before: Corrections, after: Corrections) -> None:
        """Write an image's corrections in all forms. The steps come last: only then is a change saved.

        Args:
            key (str): Of the image.
            source (ArraySource): The image.
            before (Corrections): What the page has shown so far.
            after (Corrections): What is written.

        Raises:
            UserError: If other steps than those of ``before`` are stored.
            OSError: If it cannot be written; what was stored before is then whole.
        """
        if self._steps(key).exists() and self.corrections(key).steps != before.steps:
            raise UserError('This image has been corrected in another tab too. Open it again to go on from there.')
        for name in ('images', 'coco', 'steps'):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        _write_image(self.folder / f'images/{key}.tif', source)
        state = after.state()
        for folder, kind in (('images', 'geojson'), ('coco', 'coco')):
            export_cells([state.left()], source, self.folder / folder, key, [kind], state.classes)
        write_json(self._steps(key), after.to_dict())

    def teach(self, with_others: bool, progress: Callable = iter) -> str:
        """Teach the model the cells of all corrected images; the result is :attr:`taught`.

        Args:
            with_others (bool): Whether cells that were neither corrected nor deleted teach too, as they are.
            progress (Callable): See :func:`cellseg_mm.teaching.teach`.

        Returns:
            str: Whether it helped, in words and a table, as Markdown.

        Raises:
            UserError: If the cells are of fewer than two classes, or a file is missing or damaged.
        """
        corrected = {key: self.corrections(key) for key in self.keys()}
        chosen, unchanged = {}, 0
        for key, corrections in corrected.items():
            state = corrections.state()
            teaching = state.alive & (state.corrected | with_others) & (state.cells.areas() > 0)
            cells = state.cells.select(teaching)
            chosen[key] = (cells, [state.classes[label] for label in cells.labels])
            unchanged += int((teaching & ~state.corrected).sum())
        taught = {name for _, names in chosen.values() for name in names}
        classes = [name for name in names_of(list(corrected.values())) if name in taught]
        if len(classes) < 2:
            found = f'all are {classes[0]}' if classes else 'there are none'
            raise UserError(f'Teaching takes corrected cells of two classes or more; so far {found}.')
        images = [
            LabelledImage(
                self.image_file(key),
                cells.boxes().astype(np.float32),
                np.array([classes.index(name) for name in names], np.int64),
            )
            for key, (cells, names) in chosen.items()
            if len(cells)
        ]
        content, comparison = teach(self._checkpoint, images, classes, progress, self._see)
        save_checkpoint(content, str(self.taught))
        count = sum(len(image.labels) for image in images)
        if comparison is None:
            return f'Taught with {count:,} cells, too few to keep some back and see whether it helped.'
        words = comparison.in_words()
        if comparison.before is not None:
            words += (
                f' The {unchanged:,} cells that you left as they are count as right: if you have not checked them, the '
                'share before is too high.'
                if unchanged
                else ' Only cells that you changed count: if you changed wrong ones alone, the share before is too low.'
            )
        return f'Taught with {count:,} cells. {words}\n\n{comparison.table(classes)}\n'


def _write_image(path: Path, source: ArraySource) -> None:
    """Write an image as TIFF with its pixel size, unless it is there already."""
    try:
        stored = open_image(path).pixel_size
        if stored == source.pixel_size or (stored and source.pixel_size and is_same_size(stored, source.pixel_size)):
            return
    except UserError:
        pass  # missing or damaged
    resolution = (1e4 / source.pixel_size,) * 2 if source.pixel_size else (1, 1)
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        source.read(0, 0, source.width, source.height),
        photometric='rgb',
        compression='zlib',
        resolution=resolution,
        resolutionunit='CENTIMETER' if source.pixel_size else 'NONE',
        metadata=None,
    )
    write_atomically(path, buffer.getvalue())
