from collections.abc import Sequence

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from cellseg_mm.utils import markdown_table

from .coco_results import encode_predictions, read_ground_truth, select_images
from .metrics import CENTROID_RADIUS, class_table, evaluate


@METRICS.register_module()
class CellMetric(BaseMetric):
    """All metrics of :func:`evaluate`, for the images that went through the model.

    Args:
        ann_file (str): COCO annotations. Its categories are the classes of the dataset.
        score_thr (float | None): Score threshold of PQ, AJI, Dice and F1. None chooses it on these data, which is for
            validation; :class:`OperatingPointHook` keeps it in the checkpoint, from which tools/test.py takes it.
        engine (str): ``'faster_coco_eval'`` or ``'pycocotools'``.
        centroid_radius (float): Radius of F1 in px.
        collect_device (str): As for every metric.

    Raises:
        UserError: See :func:`read_ground_truth`.
    """

    default_prefix = 'cells'

    def __init__(
        self,
        ann_file: str,
        score_thr: float | None = None,
        engine: str = 'faster_coco_eval',
        centroid_radius: float = CENTROID_RADIUS,
        collect_device: str = 'cpu',
    ) -> None:
        super().__init__(collect_device=collect_device)
        self.score_thr = score_thr
        self.engine = engine
        self.centroid_radius = centroid_radius
        # now, so that an error does not cost an epoch's work
        self.ground_truth = read_ground_truth(ann_file)

    def process(self, data_batch: dict, data_samples: Sequence) -> None:
        """Keep a batch's predictions, as COCO results."""
        ids = {entry['name']: entry['id'] for entry in self.ground_truth['categories']}
        category_ids = [ids[name] for name in self.dataset_meta['classes']]
        for sample in data_samples:
            self.results.append(encode_predictions(sample['img_id'], sample['pred_instances'], category_ids))

    def compute_metrics(self, results: list) -> dict:
        """Compute the metrics, and log a table of the classes."""
        seen = {image.image_id: image for image in results}  # an image that a wrapper repeats counts once
        ground_truth = select_images(self.ground_truth, seen)
        entries = [entry for image in seen.values() for entry in image.entries]
        metrics = evaluate(ground_truth, entries, self.score_thr, self.engine, self.centroid_radius)
        classes = [entry['name'] for entry in ground_truth['categories']]
        table = markdown_table(*class_table(metrics, classes))
        print_log(f'{len(entries):,} detections; PQ and F1 at score {metrics["score_thr"]:.2f}\n{table}', 'current')
        return metrics
