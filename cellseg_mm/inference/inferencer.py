"""From images to cells in Python; everything that this needs comes from a checkpoint."""

import contextlib
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.structures import InstanceData

from cellseg_mm.datasets.stain import channel_order, stain_difference
from cellseg_mm.datasets.transforms import resized_size
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.engine.data_facts import checkpoint_pixel_size
from cellseg_mm.engine.detector import checkpoint_config, input_pipeline, load_detector
from cellseg_mm.engine.precision import PRECISIONS, inference_precision
from cellseg_mm.engine.score_threshold import find_score_threshold
from cellseg_mm.images import (
    ArraySource,
    ResampledSource,
    SwappedSource,
    as_source,
    check_pixel_size,
    is_same_size,
    open_image,
    sample_windows,
)
from cellseg_mm.models import bare_detector
from cellseg_mm.models.detector_config import most_instances, set_score_floor
from cellseg_mm.models.given_boxes import cells_in_boxes, embed_boxes, feature_size
from cellseg_mm.structures import Cells, mask_codes
from cellseg_mm.utils import UserError
from cellseg_mm.weights import find_checkpoint

from .tile_grid import TileGrid, default_overlap, most_inside
from .tiled_inference import predict_tiled

# Scales that differ from those of the training images by up to this factor are usual; augmentation zooms by 15 %.
TOLERANCE = 1.15
# Pixel sizes of an image and of training that differ by more than this factor are taken for a mistake.
MAX_FACTOR = 8
# For checkpoints without scales: images are fitted as in tools/test.py down to three quarters, else tiled at full size.
UNKNOWN_SCALE = (0.75, 1.0, float('inf'))
# Px a side of a tile's input, and at most of a whole image's, where Resize has a factor and gives inputs of any size.
UNBOUNDED_INPUT = (1024, 4096)
VIEWS = dict(type='CellTTAModel')  # for checkpoints whose config has no tta_model


class CellInferencer:
    """Finds the cells of images::

        from cellseg_mm import CellInferencer
        cells = CellInferencer()('slide.png')
        cells.labels, cells.scores, cells.instance_map()

    An image like the training images is fitted to the size of the input, as in tools/test.py. An image that would be
    fitted at a scale which no training image had, such as a slide, is processed in tiles at their median scale instead,
    see :func:`predict_tiled`.

    Where the pixel sizes of an image and of the training images are known and differ, all of this happens to the image
    resampled to the training's pixel size, see :class:`ResampledSource`. Cells come back in px of the image itself.

    Threads may share an inferencer: its network sees one image, or tile, at a time.

    Args:
        checkpoint (str | Path | None): A file of tools/train.py or tools/deploy.py, or the name of a shipped model, see
            :func:`cellseg_mm.weights.shipped_models`; the default one if None. Nothing in it is run: its config is read
            as plain text and may name only registered parts.
        config (str | Path | None): A config file in place of the checkpoint's own config.
        device (str | None): Such as ``'cpu'`` or ``'cuda:1'``; by default CUDA if there is a device.
        score_thr (float | None): The least score of a cell, 0..1; by default the one that validation chose, which the
            checkpoint keeps.
        scale (float | None): Px of the model's input to a px of the image, in tiles, for images whose cells differ in
            size from those of the training; all images are then processed in tiles, and pixel sizes do not matter.
        channel_order (str): Of files given as a path: ``'rgb'``, ``'bgr'`` for red and blue exchanged, or ``'auto'``:
            rgb, unless training was prepared from files with red and blue exchanged; then the stain of the cells in
            each file decides, see :func:`find_channel_order`.
        tta (bool): Merge several views, those of the config's ``tta_model``, see :class:`CellTTAModel`.
        pixel_size (float | None): Micrometres a px of all images; by default what each image says itself.
        precision (str): Of the network on a CPU, see :func:`cellseg_mm.engine.precision.inference_precision`.

    Attributes:
        classes (tuple[str]): Names, in the order of the labels.
        score_thr (float): As above.
        score_reason (str): Where it comes from, in words.
        validated_thr (float): The threshold that validation chose, 0.5 without one; ``score_thr`` does not change it.
        training_order (str): Channel order of the files that training was prepared from, ``'rgb'`` if unknown.
        max_cells (int): The most cells that are found in an image or a tile.
        scale (float): As above.
        pixel_size (float | None): As above.
        training_pixel_size (float | None): Micrometres a px of the training images, None if unknown.
        origin (dict): What the cells depend on, as plain values, for :func:`predict_tiled`.

    Raises:
        UserError: If the checkpoint cannot be used.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        config: str | Path | None = None,
        device: str | None = None,
        score_thr: float | None = None,
        scale: float | None = None,
        channel_order: str = 'auto',
        tta: bool = False,
        precision: str = 'auto',
        pixel_size: float | None = None,
    ) -> None:
        config = config and str(config)
        _check_options(score_thr, scale, channel_order, precision, pixel_size)
        checkpoint = find_checkpoint(checkpoint)
        content = read_checkpoint(checkpoint)
        cfg = checkpoint_config(content, checkpoint, config)
        self.classes = tuple(content['meta']['dataset_meta']['classes'])
        self.score_thr, self.score_reason = find_score_threshold(content, score_thr)
        self.validated_thr, _ = find_score_threshold(content)
        self.channel_order, self.training_order = channel_order, cfg.get('channel_order') or 'rgb'
        self.max_cells, steps, resize = _adapt_config(cfg, self.score_thr, config or checkpoint)
        self._precision = precision
        model = load_detector(cfg, content, checkpoint, config)
        views = dict(cfg.get('tta_model', VIEWS), module=model, score_thr=self.score_thr)
        self._model = MODELS.build(views).eval() if tta else model
        self._lock = threading.Lock()  # inference_precision() replaces methods of the network for a while
        self._floor = 0.0 if tta else self.score_thr  # a merged cell has the mean of its views' scores
        _move(self._model, device)

        smallest, median, largest = content['meta'].get('input_scale') or UNKNOWN_SCALE
        self._usual_scales = (smallest / TOLERANCE, largest * TOLERANCE) if scale is None else None
        self.scale = float(scale or median)
        self.pixel_size, self.training_pixel_size = pixel_size, checkpoint_pixel_size(content, checkpoint)
        stat = Path(checkpoint).stat()
        self.origin = dict(
            checkpoint=[str(Path(checkpoint).resolve()), stat.st_size, stat.st_mtime_ns],
            config=config,
            score_thr=self.score_thr,
            scale=self.scale,
            tta=tta,
            precision=precision,
            pixel_size=pixel_size,
            training_pixel_size=self.training_pixel_size,
        )
        scaled = dict(type='Resize', scale_factor=self.scale, keep_ratio=True)
        self._fitted = [TRANSFORMS.build(step) for step in steps]
        self._resize = self._fitted[steps.index(resize)]
        self._input_size = sorted(self._resize.scale or UNBOUNDED_INPUT)
        self._scaled = [TRANSFORMS.build(scaled if step is resize else step) for step in steps]

    def __call__(self, image: object) -> Cells | list:
        """The cells of an image, or of each of several.

        Args:
            image (str | Path | ndarray | Image | object | list | tuple): A file, see :meth:`open`; an (H, W, 3) uint8
                RGB array; an image of Pillow; a source, see :func:`open_image`; or a list of these.

        Returns:
            Cells | list[Cells]: The cells with a score of :attr:`score_thr` or more; a list for a list.

        Raises:
            UserError: If a file cannot be read, or ``image`` has another type.
        """
        if isinstance(image, (list, tuple)):
            return [self(entry) for entry in image]
        image = self.open(image)
        with tempfile.TemporaryDirectory() as folder:
            parts = self.stream(image, folder, {}, self.needs_tiles(image), **self.tiling(), alone=True)
            return Cells.concatenate([Cells.from_codes([], [], [], image.height, image.width), *parts])

    def open(self, image: object) -> object:
        """An image as a source in true RGB; ``channel_order`` is that of files.

        Args:
            image (str | Path | ndarray | Image | object): As for a call, a single one.

        Returns:
            object: See :func:`open_image`; its ``note`` says if red and blue were exchanged.

        Raises:
            UserError: If a file cannot be read, or ``image`` has another type.
        """
        if not isinstance(image, (str, Path)):
            return as_source(image)
        source, order = open_image(image), self.channel_order
        source.pixel_size = self.pixel_size or source.pixel_size
        if order == 'auto':
            order = 'rgb' if self.training_order == 'rgb' else channel_order([_stain_of_cells(self, source)])[0]
        return SwappedSource(source) if order == 'bgr' else source

    def size_factor(self, source: object) -> float:
        """Px of the image that the model is shown to a px of the image: 1 if a pixel size is unknown or both are equal.

        Raises:
            UserError: If the pixel sizes differ too much to be true.
        """
        own, training = self.pixel_size or source.pixel_size, self.training_pixel_size
        if self._usual_scales is None or not own or not training or is_same_size(own, training):
            return 1.0
        if not 1 / MAX_FACTOR <= own / training <= MAX_FACTOR:
            raise UserError(
                f'{source.name or "image"}: {own:.4g} um a px, but the training images had {training:.4g}; if this is '
                'a mistake, give the right --pixel-size, else --scale'
            )
        return own / training

    def _resample(self, source: object) -> object:
        """The image at the training's pixel size; itself if :meth:`size_factor` is 1."""
        factor = self.size_factor(source)
        return source if factor == 1 else ResampledSource(source, factor)

    def describe_size(self, source: object) -> str:
        """What :meth:`size_factor` does to an image, in words; empty if nothing."""
        factor = self.size_factor(source)
        if factor == 1:
            return ''
        return (
            f"shown to the model at the training's {self.training_pixel_size:.4g} um a px, {factor:.2f} times its size"
        )

    def needs_tiles(self, source: object) -> bool:
        """Whether an image would be fitted at a scale that no training image had."""
        if self._usual_scales is None:
            return True
        source = self._resample(source)
        size, fitted = resized_size(self._resize, source.width, source.height)
        return not self._usual_scales[0] <= fitted <= self._usual_scales[1] or max(size) > self._input_size[1]

    def tiling(self, tile_size: int | None = None, overlap: int | None = None) -> dict:
        """Arguments of :func:`predict_tiled`.

        Args:
            tile_size (int | None): Px a side, of the image as the model is shown it (:meth:`size_factor`); by default a
                tile fills the model's input at :attr:`scale`.
            overlap (int | None): Px that tiles share; by default :func:`default_overlap`.

        Raises:
            UserError: If no image can be tiled so.
        """
        tile_size = max(96, round(self._input_size[0] / self.scale)) if tile_size is None else tile_size
        overlap = default_overlap(tile_size) if overlap is None else overlap
        TileGrid.cover(1, 1, tile_size, overlap)
        return dict(tile_size=tile_size, overlap=overlap)

    def stream(self, source: object, work_dir: str | Path, origin: dict, tiled: bool, **options) -> Iterator:
        """The cells of an image part by part.

        Args:
            source (object): See :func:`open_image`.
            work_dir (str | Path): See :func:`predict_tiled`.
            origin (dict): See :func:`predict_tiled`.
            tiled (bool): Whether in tiles at :attr:`scale`, see :meth:`needs_tiles`; else fitted, in one part.
            **options: Of :func:`predict_tiled`, see :meth:`tiling`.

        Returns:
            Iterator[Cells]: Parts in the whole image's pixels.
        """
        shown = self._resample(source)
        if tiled:
            options = options or self.tiling()
            parts = predict_tiled(lambda images: self._detect(images, self._scaled), shown, work_dir, origin, **options)
        else:
            parts = self._detect([shown.read(0, 0, shown.width, shown.height)], self._fitted)
        return iter(parts) if shown is source else (cells.resize(source.height, source.width) for cells in parts)

    def features(self, image: object, boxes: np.ndarray) -> np.ndarray:
        """What a classifier of cells sees in each box: to name cells by another one than the detector's own.

        Each box is seen in the image or tile that the detector would see, in the tile whose border is farthest from it.

        Args:
            image (object): As for a call, a single one.
            boxes (ndarray): (N, 4) x1, y1, x2, y2 in px of the image.

        Returns:
            ndarray: (N, D) float32.
        """
        source = self.open(image)
        shown = self._resample(source)
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4) * np.float32(shown.width / source.width)
        found = np.zeros((len(boxes), feature_size(self._bare)), np.float32)
        for window, transforms, own in self._windows(shown, boxes):
            with self._lock, torch.no_grad():
                levels, _, scaled = self._see(shown, window, transforms, boxes[own])
                found[own] = embed_boxes(self._bare, levels, scaled).cpu().numpy()
        return found

    def cell_in_box(self, image: object, box: Sequence) -> Cells:
        """The cell that the mask head sees in a box which a person has drawn, with the class that the box head gives.

        Args:
            image (object): As for a call, a single one.
            box (Sequence[float]): x1, y1, x2, y2 in px of the image.

        Returns:
            Cells: One cell of score 1, or none if no pixel of the box is a cell's.
        """
        source = self.open(image)
        shown = self._resample(source)
        boxes = np.array([box], np.float32) * np.float32(shown.width / source.width)
        (window, transforms, _), *_ = self._windows(shown, boxes)
        with self._lock, torch.no_grad():
            levels, meta, scaled = self._see(shown, window, transforms, boxes)
            drawn = cells_in_boxes(self._bare, levels, scaled, meta)
        x, y, width, height = window
        cells = Cells.from_codes(mask_codes(drawn.masks), drawn.labels.cpu(), [1.0], height, width)
        cells = cells.place(x, y, shown.height, shown.width)
        cells = cells if shown is source else cells.resize(source.height, source.width)
        return cells.select(cells.areas() > 0)

    @property
    def _bare(self) -> torch.nn.Module:
        return bare_detector(self._model)

    def _windows(self, source: object, boxes: np.ndarray) -> Iterator:
        """Each window (x, y, width, height) in which boxes are seen, its transforms, and the indices of these boxes."""
        windows, transforms = [(0, 0, source.width, source.height)], self._fitted
        if self.needs_tiles(source):
            grid = TileGrid.cover(source.height, source.width, **self.tiling())
            windows, transforms = [grid.window(index) for index in range(len(grid))], self._scaled
        nearest = most_inside(windows, boxes)
        for index in np.unique(nearest).tolist():
            yield windows[index], transforms, np.flatnonzero(nearest == index)

    def _see(self, source: object, window: tuple, transforms: list, boxes: np.ndarray) -> tuple:
        """The feature maps of a window, its meta, and the boxes, which are in px of the source, in px of the input.

        The caller holds the lock.
        """
        x, y, *_ = window
        entry = _pack(source.read(*window), transforms)
        data = self._bare.data_preprocessor({key: [value] for key, value in entry.items()}, False)
        with inference_precision(self._model, self._precision):
            levels = self._bare.extract_feat(data['inputs'])
        meta = data['data_samples'][0].metainfo
        scaled = torch.from_numpy(boxes - [x, y, x, y]).float() * torch.tensor(meta['scale_factor']).repeat(2)
        return levels, meta, scaled.to(levels[0].device)

    def _detect(self, images: list, transforms: list) -> list:
        """The cells of each image; the model takes images of one size together."""
        found = [None] * len(images)
        for shape in dict.fromkeys(image.shape for image in images):
            indices = [index for index, image in enumerate(images) if image.shape == shape]
            inputs = [_pack(images[index], transforms) for index in indices]
            with self._lock, torch.no_grad(), inference_precision(self._model, self._precision):
                results = self._model.test_step({key: [entry[key] for entry in inputs] for key in inputs[0]})
            for index, result in zip(indices, results, strict=True):
                found[index] = _to_cells(result.pred_instances, *shape[:2], self._floor)
        return found


def _pack(image: np.ndarray, transforms: list) -> dict:
    """A test pipeline's output for an image in memory, (H, W, 3) uint8 RGB; from files it would load BGR."""
    results = dict(img=np.ascontiguousarray(image[..., ::-1]), img_id=0, img_path='')
    results.update(img_shape=image.shape[:2], ori_shape=image.shape[:2])
    for transform in transforms:
        results = transform(results)
    return results


def find_channel_order(detector: CellInferencer, paths: Sequence) -> tuple:
    """The channel order of a set of files, by the stain of the cells in them: in true colours nuclei are bluer than
    their surroundings.

    The detector sees one window of each file in both orders, and the cells of both count, from validation's threshold
    up. Files that cannot be read do not count.

    Args:
        detector (CellInferencer): Finds the cells.
        paths (Sequence[Path]): The files.

    Returns:
        tuple: ``'rgb'`` or ``'bgr'``, and the reason in words.
    """
    differences = []
    for path in paths:
        with contextlib.suppress(UserError):
            differences.append(_stain_of_cells(detector, open_image(path)))
    return channel_order(differences)


def _stain_of_cells(detector: CellInferencer, source: object) -> float | None:
    """See :func:`stain_difference`."""
    windows = (source.read(*window) for window in sample_windows(source.height, source.width))
    window = min(windows, key=lambda window: window.mean())  # the one with the most tissue
    views = (ArraySource(view, source.pixel_size) for view in (window, np.ascontiguousarray(window[..., ::-1])))
    cells = Cells.concatenate([detector(view) for view in views])
    cells = cells.select(cells.scores >= detector.validated_thr)
    return stain_difference(window, cells.instance_map(min_visible=0) > 0)


def _to_cells(instances: InstanceData, height: int, width: int, score_thr: float) -> Cells:
    """mmdet's predictions from a score up, each cell once.

    mmdet suppresses doubles within a class only, and by their boxes. Here a cell is dropped if cells of higher scores
    leave less than half of it, as in PQ and in validation's choice of the threshold.
    """
    cells = Cells.from_codes(mask_codes(instances.masks), instances.labels.cpu(), instances.scores.cpu(), height, width)
    cells = cells.select(cells.scores >= np.float32(score_thr))
    visible = np.unique(cells.instance_map())
    return cells.select(visible[visible > 0] - 1)


def _check_options(
    score_thr: float | None, scale: float | None, channel_order: str, precision: str, pixel_size: float | None
) -> None:
    """Refuse invalid options of :class:`CellInferencer`."""
    if score_thr is not None and not 0 <= score_thr <= 1:
        raise UserError(f'invalid score threshold {score_thr}: scores go from 0 to 1')
    if scale is not None and not 0.01 <= scale <= 100:
        raise UserError(f'invalid scale {scale}: it must be from 0.01 to 100')
    if pixel_size is not None:
        check_pixel_size(pixel_size)
    if channel_order not in ('auto', 'rgb', 'bgr'):
        raise UserError(f'invalid channel order {channel_order!r}: choose from auto, rgb, bgr')
    if precision not in PRECISIONS:
        raise UserError(f'invalid precision {precision!r}: choose from {", ".join(PRECISIONS)}')


def _adapt_config(cfg: Config, score_thr: float, path: str) -> tuple:
    """Make a model return the cells from a score up.

    Args:
        cfg (Config): Of :func:`checkpoint_config`, changed in place.
        score_thr (float): 0..1.
        path (str): Its file, for messages.

    Returns:
        tuple: The most cells of an image, the steps of its pipeline after loading, and the one of them that is Resize.

    Raises:
        UserError: If the config lacks these parts.
    """
    set_score_floor(cfg.model, score_thr)
    try:
        steps = [step for step in input_pipeline(cfg) if not step.type.startswith('Load')]
        resize = next(step for step in steps if step.type == 'Resize' and step.keep_ratio)
        return most_instances(cfg.model), steps, resize
    except (AttributeError, StopIteration) as error:
        raise UserError(f'{path}: not a config of this project ({error!r})') from error


def _move(model: torch.nn.Module, device: str | None) -> None:
    """Move a model to a device; if None, to CUDA if there is a device."""
    try:
        model.to(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'device {device}: cannot be used ({str(error).splitlines()[0]})') from error
