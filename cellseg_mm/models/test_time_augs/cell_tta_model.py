import itertools
from collections.abc import Iterable, Sequence

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from cellseg_mm.structures import Cells

from .mask_votes import MaskVotes
from .views import View


@MODELS.register_module()
class CellTTAModel(BaseTTAModel):
    """A detector that looks at several views of each image and merges what it finds, masks included.

    It takes the place of the detector it wraps, with the same test pipeline. One view is made, looked at, merged and
    forgotten before the next, see :class:`MaskVotes`; mmengine's own way makes all of them first. The views are all
    combinations of flips, turns and scales.

    Args:
        module (dict | nn.Module): The detector; with :class:`RLEMaskHead`.
        flips (Sequence[bool]): Whether left and right are exchanged.
        turns (Sequence[int]): Quarter turns.
        scales (Sequence[float]): Factors on the size that the test pipeline gives.
        data_preprocessor (dict | nn.Module | None): Of the detector, if it defines none.
    """

    def __init__(
        self,
        module: dict | torch.nn.Module,
        flips: Sequence = (False, True),
        turns: Sequence = (0, 1, 2, 3),
        scales: Sequence = (1.0,),
        data_preprocessor: dict | torch.nn.Module | None = None,
    ) -> None:
        super().__init__(module, data_preprocessor)
        combinations = itertools.product(scales, turns, flips)
        self.views = [View(bool(flip), turn % 4, scale) for scale, turn, flip in combinations]

    def test_step(self, data: dict) -> list:
        """Predictions of a batch.

        Args:
            data (dict): ``inputs``, (3, H, W) uint8 tensors, and ``data_samples`` with ``ori_shape``.

        Returns:
            list[DetDataSample]: The samples, with ``pred_instances`` as the detector gives them; boxes are the tight
            ones of the masks.
        """
        samples = data['data_samples']
        merged = self.merge_preds(self._predict(view, data['inputs'], samples) for view in self.views)
        for cells, sample in zip(merged, samples, strict=True):
            sample.pred_instances = _as_instances(cells)
        return samples

    def merge_preds(self, predictions: Iterable) -> list:
        """Merge what the views show, as it comes.

        Args:
            predictions (Iterable[list[Cells]]): Of each view, at least one, each image's cells in px of the image.

        Returns:
            list[Cells]: Of each image.
        """
        votes = []
        for images in predictions:
            votes = votes or [
                MaskVotes(cells.height, cells.width, self.module.test_cfg.rcnn.max_per_img) for cells in images
            ]
            for vote, cells in zip(votes, images, strict=True):
                vote.add(cells)
        return [vote.result() for vote in votes]

    def _predict(self, view: View, images: list, samples: list) -> list:
        """The cells of each image as one view shows them, in px of the original image."""
        seen = [view.apply(image) for image in images]
        view_samples = [_view_sample(view, image, sample) for image, sample in zip(seen, samples, strict=True)]
        predicted = self.module.test_step(dict(inputs=seen, data_samples=view_samples))
        found = [(sample.pred_instances, sample.ori_shape) for sample in predicted]
        return [
            view.restore(Cells.from_codes(instances.masks, instances.labels.cpu(), instances.scores.cpu(), *size))
            for instances, size in found
        ]


def _view_sample(view: View, image: Tensor, sample: DetDataSample) -> DetDataSample:
    """What the detector must know of a view: its sizes."""
    height, width = sample.ori_shape[:2]
    if view.turns % 2:
        height, width = width, height
    sizes = dict(
        ori_shape=(height, width),
        img_shape=tuple(image.shape[1:]),
        scale_factor=(image.shape[2] / width, image.shape[1] / height),
    )
    return DetDataSample(metainfo={**sample.metainfo, **sizes})


def _as_instances(cells: Cells) -> InstanceData:
    return InstanceData(
        bboxes=torch.from_numpy(cells.boxes()).float(),
        scores=torch.from_numpy(cells.scores),
        labels=torch.from_numpy(cells.labels),
        masks=cells.codes(),
    )
