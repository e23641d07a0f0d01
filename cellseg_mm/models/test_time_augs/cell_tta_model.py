import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from cellseg_mm.models.detector_config import most_instances
from cellseg_mm.structures import Cells, mask_codes

from .mask_votes import MaskVotes
from .views import View


@MODELS.register_module()
class CellTTAModel(BaseTTAModel):
    """A detector that predicts on several views of each image and merges the cells, masks included.

    It replaces the detector that it wraps, with the same test pipeline. Each view is made, predicted, merged and
    dropped before the next, see :class:`MaskVotes`; MMEngine makes all of them first. The views are all combinations of
    flips, turns and scales.

    Args:
        module (dict | nn.Module): The detector.
        flips (Sequence[bool]): Whether left and right are exchanged.
        turns (Sequence[int]): Quarter turns.
        scales (Sequence[float]): Factors on the size that the test pipeline gives.
        score_thr (float): The least score of a cell in a view, for detectors that return detections of any score.
        data_preprocessor (dict | nn.Module | None): The preprocessor, if the detector does not define one.
    """

    def __init__(
        self,
        module: dict | torch.nn.Module,
        flips: Sequence = (False, True),
        turns: Sequence = (0, 1, 2, 3),
        scales: Sequence = (1.0,),
        score_thr: float = 0.0,
        data_preprocessor: dict | torch.nn.Module | None = None,
    ) -> None:
        super().__init__(module, data_preprocessor)
        self.score_thr = score_thr
        combinations = itertools.product(scales, turns, flips)
        self.views = [View(bool(flip), turn % 4, scale) for scale, turn, flip in combinations]

    def test_step(self, data: dict) -> list:
        """Predict a batch.

        Args:
            data (dict): ``inputs``, (3, H, W) uint8 tensors, and ``data_samples`` with ``ori_shape``.

        Returns:
            list[DetDataSample]: The samples, with ``pred_instances`` in the detector's form; boxes are the tight boxes
            of the masks.
        """
        samples = data['data_samples']
        merged = self.merge_preds(self._predict(view, data['inputs'], samples) for view in self.views)
        for cells, sample in zip(merged, samples, strict=True):
            sample.pred_instances = _as_instances(cells)
        return samples

    def merge_preds(self, predictions: Iterable) -> list:
        """Merge the cells of the views, one view after another.

        Args:
            predictions (Iterable[list[Cells]]): For each view, of one or more, each image's cells in px of the image.

        Returns:
            list[Cells]: The merged cells of each image.
        """
        votes, most = [], most_instances(dict(test_cfg=self.module.test_cfg))
        for images in predictions:
            votes = votes or [MaskVotes(cells.height, cells.width, most) for cells in images]
            for vote, cells in zip(votes, images, strict=True):
                vote.add(cells)
        return [vote.result() for vote in votes]

    def _predict(self, view: View, images: list, samples: list) -> list:
        """The cells that the detector finds in one view of each image, in px of the original image."""
        seen = [view.apply(image) for image in images]
        view_samples = [_view_sample(view, image, sample) for image, sample in zip(seen, samples, strict=True)]
        predicted = self.module.test_step(dict(inputs=seen, data_samples=view_samples))
        found = [(sample.pred_instances, sample.ori_shape) for sample in predicted]
        cells = [
            Cells.from_codes(mask_codes(instances.masks), instances.labels.cpu(), instances.scores.cpu(), *size)
            for instances, size in found
        ]
        return [view.restore(each.select(each.scores >= np.float32(self.score_thr))) for each in cells]


def _view_sample(view: View, image: Tensor, sample: DetDataSample) -> DetDataSample:
    """The sizes of a view, which the detector needs."""
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
