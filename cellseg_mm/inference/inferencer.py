"""From images to cells in Python, with all that is needed taken from a checkpoint."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures.mask import encode_mask_results
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from cellseg_mm.datasets.stain import channel_order, stain_difference
from cellseg_mm.engine import run_setup
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.engine.detector import build_detector, checkpoint_config
from cellseg_mm.structures import Cells
from cellseg_mm.utils import UserError

from .image_source import ArraySource, open_image
from .pixel_values import sample_windows
from .tiled import predict_tiled

# A scale within so much of the training images' own is theirs too; augmentation zooms by 15 %.
TOLERANCE = 1.15
# Of checkpoints that do not say theirs: fitted as tools/test.py does down to three quarters, else tiles at full size.
UNKNOWN_SCALE = (0.75, 1.0, float('inf'))
VIEWS = dict(type='CellTTAModel')  # of checkpoints whose config has no tta_model
MAX_OVERLAP = 128  # px that tiles share, if a quarter of them is more


class CellInferencer:
    """Finds the cells of images::

        from cellseg_mm import CellInferencer
        cells = CellInferencer('best.pth')('slide.png')
        cells.labels, cells.scores, cells.instance_map()

    An image like those of the training goes through the model as in tools/test.py, fitted to the input's size. One that
    would be fitted at a scale which no training image had, as a slide would, is shown at their median scale instead,
    tile by tile; see :func:`predict_tiled`.

    Args:
        checkpoint (str | Path): Of tools/train.py. Nothing in it is run: its config is read as plain text, and may name
            nothing but registered parts.
        config (str | Path | None): A config file in place of the checkpoint's own config.
        device (str | None): Such as ``'cpu'`` or ``'cuda:1'``; the CUDA device if there is one, by default.
        score_thr (float | None): The least score of a cell, 0..1; by default what validation chose, which the
            checkpoint keeps.
        scale (float | None): Px of the model's input to a px of the image, in tiles, for images whose cells are not of
            the training's size; all images then go through in tiles.
        channel_order (str): Of files given as a path: ``'rgb'``, or ``'bgr'`` for red and blue exchanged.
        tta (bool): Merge what several views show, see :class:`CellTTAModel`: those of the config's ``tta_model``.

    Attributes:
        classes (tuple[str]): Names, in the order of the labels.
        score_thr (float): As above.
        score_reason (str): Where it is from, in words.
        training_order (str): Channel order of the files that training was prepared from, ``'rgb'`` where unknown.
        max_cells (int): As many are found in an image, or a tile, at most.
        scale (float): As above.
        tile_size (int): Px a side of a tile: at that scale it fills the model's input.
        overlap (int): Px that tiles share.
        origin (dict): What the cells it finds depend on, as plain values, for :func:`predict_tiled`.

    Raises:
        UserError: If the checkpoint cannot be used.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        config: str | Path | None = None,
        device: str | None = None,
        score_thr: float | None = None,
        scale: float | None = None,
        channel_order: str = 'rgb',
        tta: bool = False,
    ) -> None:
        checkpoint, content = str(checkpoint), read_checkpoint(str(checkpoint))
        if score_thr is not None and not 0 <= score_thr <= 1:
            raise UserError(f'a score threshold of {score_thr}: scores go from 0 to 1')
        if scale is not None and not 0.01 <= scale <= 100:
            raise UserError(f'a scale of {scale}: 0.01 to 100 is possible')
        facts = run_setup.checkpoint_data_facts(content, checkpoint)
        self.classes = tuple(facts['classes'])
        self.score_thr, self.score_reason = run_setup.operating_threshold(content, score_thr)
        cfg = checkpoint_config(content, checkpoint, config and str(config))
        self.channel_order, self.training_order = channel_order, cfg.get('channel_order') or 'rgb'
        init_default_scope('mmdet')
        try:
            # mmdet keeps what is above its threshold, here what is at it counts too
            cfg.model.test_cfg.rcnn.score_thr = float(np.nextafter(np.float32(self.score_thr), np.float32(-1)))
            self.max_cells = cfg.model.test_cfg.rcnn.max_per_img
            steps = [step for step in cfg.test_pipeline if not step.type.startswith('Load')]
            resize = next(step for step in steps if step.type == 'Resize' and step.keep_ratio)
            self._input_size = sorted(resize.scale)
            model = build_detector(cfg)
        except Exception as error:  # of any kind, by a config of another version or project
            raise UserError(f'{config or checkpoint}: its model cannot be built ({error!r})') from error
        run_setup.check_weights_fit(model, content, str(config or 'its config'), checkpoint)
        model.load_state_dict(content['state_dict'])
        self._model = MODELS.build(dict(cfg.get('tta_model', VIEWS), module=model)) if tta else model
        try:
            self._model.to(device or ('cuda' if torch.cuda.is_available() else 'cpu')).eval()
        except (RuntimeError, AssertionError) as error:
            raise UserError(f'device {device}: cannot be used ({str(error).splitlines()[0]})') from error

        smallest, median, largest = content['meta'].get('input_scale') or UNKNOWN_SCALE
        self._usual_scales = (smallest / TOLERANCE, largest * TOLERANCE) if scale is None else None
        self.scale = scale or median
        self.tile_size = max(96, round(self._input_size[0] / self.scale))
        self.overlap = min(MAX_OVERLAP, self.tile_size // 3)
        stat = Path(checkpoint).stat()
        self.origin = dict(
            checkpoint=[str(Path(checkpoint).resolve()), stat.st_size, stat.st_mtime_ns],
            config=config and str(config),
            score_thr=self.score_thr,
            scale=self.scale,
            tta=tta,
        )
        scaled = dict(type='Resize', scale_factor=self.scale, keep_ratio=True)
        self._fitted = [TRANSFORMS.build(step) for step in steps]
        self._scaled = [TRANSFORMS.build(scaled if step is resize else step) for step in steps]

    def __call__(self, image: object) -> Cells | list:
        """The cells of an image, or of each of several.

        Args:
            image (str | Path | ndarray | object | list): A file; an array of (H, W, 3) uint8 RGB; a source, see
                :func:`open_image`; or a list of these. A list of arrays is fitted to the input as tools/test.py does,
                whatever the size.

        Returns:
            Cells | list[Cells]: Those of the image, of :attr:`score_thr` and above; of a list, one for each.

        Raises:
            UserError: If a file cannot be read.
        """
        if isinstance(image, list):
            arrays = all(isinstance(entry, np.ndarray) for entry in image)
            return self._detect(image, self._fitted) if arrays else [self(entry) for entry in image]
        if isinstance(image, np.ndarray):
            image = ArraySource(image)
        elif isinstance(image, (str, Path)):
            image = open_image(image, self.channel_order)
        with tempfile.TemporaryDirectory() as folder:
            parts = self.stream(image, folder, {}, self.needs_tiles(image))
            return Cells.concatenate([Cells.from_codes([], [], [], image.height, image.width), *parts])

    def needs_tiles(self, source: object) -> bool:
        """Whether an image would be fitted at a scale that no training image had."""
        if self._usual_scales is None:
            return True
        sides = sorted((source.height, source.width))
        fitted = min(size / side for size, side in zip(self._input_size, sides, strict=True))
        return not self._usual_scales[0] <= fitted <= self._usual_scales[1]

    def stream(self, source: object, work_dir: str | Path, origin: dict, tiled: bool, **options) -> Iterator:
        """The cells of an image part by part.

        Args:
            source (object): See :func:`open_image`.
            work_dir (str | Path): See :func:`predict_tiled`, also for the last two.
            origin (dict): Likewise.
            tiled (bool): In tiles and at :attr:`scale`, see :meth:`needs_tiles`; else fitted, in one part.
            **options: ``tile_size``, ``overlap``, ``batch_size`` and ``skip_background``.

        Returns:
            Iterator[Cells]: Parts in the whole image's pixels.
        """
        if not tiled:
            return iter(self([source.read(0, 0, source.width, source.height)]))
        options = dict(dict(tile_size=self.tile_size, overlap=self.overlap), **options)
        return predict_tiled(lambda images: self._detect(images, self._scaled), source, work_dir, origin, **options)

    def _detect(self, images: list, transforms: list) -> list:
        """The cells of each image; those of one size go through the model together."""
        found = [None] * len(images)
        for shape in dict.fromkeys(image.shape for image in images):
            indices = [index for index, image in enumerate(images) if image.shape == shape]
            inputs = [_pack(images[index], transforms) for index in indices]
            with torch.no_grad():
                results = self._model.test_step({key: [entry[key] for entry in inputs] for key in inputs[0]})
            for index, result in zip(indices, results, strict=True):
                found[index] = _to_cells(result.pred_instances, *shape[:2])
        return found


def _pack(image: np.ndarray, transforms: list) -> dict:
    """What a test pipeline makes of an image in memory, (H, W, 3) uint8 RGB; from files it would load BGR."""
    results = dict(img=np.ascontiguousarray(image[..., ::-1]), img_id=0, img_path='')
    results.update(img_shape=image.shape[:2], ori_shape=image.shape[:2])
    for transform in transforms:
        results = transform(results)
    return results


def find_channel_order(detector: CellInferencer, sources: Sequence) -> tuple:
    """The channel order of a set of files, told from the stain of the cells in them.

    One window of each is looked at in both orders, and the cells of both count: in true colours the nuclei are bluer
    than what is around them.

    Args:
        detector (CellInferencer): Or another detector.
        sources (Sequence): As the files have their channels.

    Returns:
        tuple: ``'rgb'`` or ``'bgr'``, and the reason in words.
    """
    differences = []
    for source in sources:
        windows = [source.read(*window) for window in sample_windows(source.height, source.width)]
        window = min(windows, key=lambda window: window.mean())  # the one with the most tissue
        cells = Cells.concatenate(detector([window, np.ascontiguousarray(window[..., ::-1])]))
        differences.append(stain_difference(window, cells.instance_map(min_visible=0) > 0))
    return channel_order(differences)


def _to_cells(instances: InstanceData, height: int, width: int) -> Cells:
    """mmdet's predictions, each cell once: it suppresses doubles of one class alone, and by their boxes.

    A cell of which less than half is left by those of higher scores is dropped, as where PQ is computed and where
    validation chooses the threshold.
    """
    masks = instances.masks
    if isinstance(masks, torch.Tensor):
        masks = encode_mask_results(masks.cpu().numpy())
    cells = Cells.from_codes(masks, instances.labels.cpu(), instances.scores.cpu(), height, width)
    visible = np.unique(cells.instance_map())
    return cells.select(visible[visible > 0] - 1)
