import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from .colors import class_colors
from .draw import add_caption, draw_outlines

# Smaller images are enlarged, so that the outlines of 20-px cells stay separate.
MIN_SIDE = 512
MAX_SIDE = 1024


@VISUALIZERS.register_module()
class CellVisualizer(DetLocalVisualizer):
    """mmdet's visualizer, which draws outlines by class and a legend instead of boxes, labels and filled masks.

    Ground truth is on the left, predictions are on the right. Hundreds of cells stay readable.
    """

    def _draw_instances(
        self, image: np.ndarray, instances: InstanceData, classes: list | None, palette: list | None
    ) -> np.ndarray:
        labels = np.asarray(instances.labels, int)
        num_classes = len(classes) if classes else int(labels.max(initial=0)) + 1
        classes = list(classes or map(str, range(num_classes)))
        palette = palette or class_colors(num_classes)
        masks = instances.get('masks', [])
        scale = max(1, min(round(MIN_SIDE / min(image.shape[:2])), MAX_SIDE // max(image.shape[:2])))
        drawn = draw_outlines(image, masks, [palette[label] for label in labels[: len(masks)]], scale)
        title = f'{"predicted" if "scores" in instances else "ground truth"}: {len(masks)} cells'
        return add_caption(drawn, title, classes, palette)
