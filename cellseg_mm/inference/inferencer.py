"""From images to cells in Python, with all that is needed taken from a checkpoint."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures.mask import encode_mask_results
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from cellseg_mm.datasets.stain import channel_order, stain_difference
from cellseg_mm.engine import run_setup
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.structures import Cells
from cellseg_mm.utils import UserError, load_config, parse_config_text

from .image_source import ArraySource, open_image
from .pixel_values import sample_windows
from .tiled import predict_tiled

# An image that the model's input would show at less than this share of its size goes through in tiles.
MIN_SCALE = 0.5
MAX_OVERLAP = 128  # px that tiles share, if a quarter of them is more


class CellInferencer:
    """Finds the cells of images::

        from cellseg_mm import CellInferencer
        cells = CellInferencer('best.pth')('slide.png')
        cells.labels, cells.scores, cells.instance_map()

    An image goes through the model as in tools/test.py. One of which the model's input would show less than half the
    size goes through in tiles of the input's size, see :func:`predict_tiled`.

    Args:
        checkpoint (str | Path): Of tools/train.py. Nothing in it is run: its config is read as plain text, and may name
            nothing but registered parts.
        config (str | Path | None): A config file in place of the checkpoint's own config.
        device (str | None): Such as ``'cpu'`` or ``'cuda:1'``; the CUDA device if there is one, by default.
        score_thr (float | None): The least score of a cell, 0..1; by default what validation chose, which the
            checkpoint keeps.
        channel_order (str): Of files given as a path: ``'rgb'``, or ``'bgr'`` for red and blue exchanged.

    Attributes:
        classes (tuple[str]): Names, in the order of the labels.
        score_thr (float): As above.
        score_reason (str): Where it is from, in words.
        training_order (str): Channel order of the files that training was prepared from, ``'rgb'`` where unknown.
        max_cells (int): As many are found in an image, or a tile, at most.
        tile_size (int): Px a side of a tile, if an image goes through in tiles.
        overlap (int): Px that tiles share.

    Raises:
        UserError: If the checkpoint cannot be used.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        config: str | Path | None = None,
        device: str | None = None,
        score_thr: float | None = None,
        channel_order: str = 'rgb',
    ) -> None:
        checkpoint, content = str(checkpoint), read_checkpoint(str(checkpoint))
        if score_thr is not None and not 0 <= score_thr <= 1:
            raise UserError(f'a score threshold of {score_thr}: scores go from 0 to 1')
        facts = run_setup.checkpoint_data_facts(content, checkpoint)
        self.classes = tuple(facts['classes'])
        self.score_thr, self.score_reason = run_setup.operating_threshold(content, score_thr)
        own = parse_config_text(content['meta']['cfg'])
        self.channel_order, self.training_order = channel_order, own.get('channel_order', 'rgb')
        cfg = load_config(str(config)) if config else Config(_checked(own, checkpoint))
        run_setup.set_data_facts(cfg, **facts)
        init_default_scope('mmdet')
        try:
            cfg.model.test_cfg.rcnn.score_thr = float(np.nextafter(np.float32(self.score_thr), np.float32(-1)))
            self.max_cells = cfg.model.test_cfg.rcnn.max_per_img
            steps = [step for step in cfg.test_pipeline if not step.type.startswith('Load')]
            self._transforms = [TRANSFORMS.build(step) for step in steps]
            self._model = MODELS.build(cfg.model)
        except Exception as error:  # of any kind, by a config that is not of this version or of another project
            raise UserError(f'{config or checkpoint}: its model cannot be built ({error!r})') from error
        run_setup.check_weights_fit(self._model, content, str(config or 'its config'), checkpoint)
        self._model.load_state_dict(content['state_dict'])
        try:
            self._model.to(device or ('cuda' if torch.cuda.is_available() else 'cpu')).eval()
        except (RuntimeError, AssertionError) as error:
            raise UserError(f'device {device}: cannot be used ({str(error).splitlines()[0]})') from error
        self._input_scale = next((sorted(step.scale) for step in steps if step.type == 'Resize'), None)
        self.tile_size = self._input_scale[0] if self._input_scale else 1024
        self.overlap = min(MAX_OVERLAP, self.tile_size // 4)

    def __call__(self, image: object) -> Cells | list:
        """The cells of an image, or of each of several.

        Args:
            image (str | Path | ndarray | object | list): A file; an array of (H, W, 3) uint8 RGB; a source, see
                :func:`open_image`; or a list of these, of which arrays are never put into tiles.

        Returns:
            Cells | list[Cells]: Those of the image, of :attr:`score_thr` and above; of a list, one for each.

        Raises:
            UserError: If a file cannot be read.
        """
        if isinstance(image, list) and all(isinstance(entry, np.ndarray) for entry in image):
            return self._detect(image)
        if isinstance(image, list):
            return [self(entry) for entry in image]
        if isinstance(image, np.ndarray):
            image = ArraySource(image)
        elif isinstance(image, (str, Path)):
            image = open_image(image, self.channel_order)
        if not self.needs_tiles(image):
            return self._detect([image.read(0, 0, image.width, image.height)])[0]
        with tempfile.TemporaryDirectory() as folder:
            parts = predict_tiled(self, image, folder, {}, self.tile_size, self.overlap)
            return Cells.concatenate([Cells.from_codes([], [], [], image.height, image.width), *parts])

    def needs_tiles(self, source: object) -> bool:
        """Whether the model's input would show less than half the size of an image."""
        sides = sorted((source.height, source.width))
        limits = self._input_scale or sides
        return min(limit / side for limit, side in zip(limits, sides, strict=True)) < MIN_SCALE

    def _detect(self, images: list) -> list:
        """The cells of each image; those of one size go through the model together."""
        found = [None] * len(images)
        for shape in dict.fromkeys(image.shape for image in images):
            indices = [index for index, image in enumerate(images) if image.shape == shape]
            inputs = [self._pack(images[index]) for index in indices]
            with torch.no_grad():
                results = self._model.test_step({key: [entry[key] for entry in inputs] for key in inputs[0]})
            for index, result in zip(indices, results, strict=True):
                found[index] = _to_cells(result.pred_instances, *shape[:2])
        return found

    def _pack(self, image: np.ndarray) -> dict:
        """What the test pipeline makes of an image in memory; it loads files as BGR."""
        results = dict(img=np.ascontiguousarray(image[..., ::-1]), img_id=0, img_path='')
        results.update(img_shape=image.shape[:2], ori_shape=image.shape[:2])
        for transform in self._transforms:
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
    """mmdet's predictions, without those that have no pixel."""
    masks = instances.masks
    if isinstance(masks, torch.Tensor):
        masks = encode_mask_results(masks.cpu().numpy())
    cells = Cells.from_codes(masks, instances.labels.cpu(), instances.scores.cpu(), height, width)
    return cells.select(cells.runs.areas(len(cells)) > 0)


def _checked(config: dict, path: str) -> dict:
    """A config from a checkpoint; MMEngine would call whatever function a dotted ``type`` names.

    Raises:
        UserError: If there is one.
    """
    queue = [config]
    while queue:
        value = queue.pop()
        if isinstance(value, dict):
            if '.' in str(value.get('type')):
                raise UserError(
                    f'{path}: its config names {value["type"]}, which may be any program; if you trust it, give its '
                    'config by --config'
                )
            queue += value.values()
        elif isinstance(value, (list, tuple)):
            queue += value
    return config
