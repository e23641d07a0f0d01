"""From labelled cells and a detector to a checkpoint that names cells by these classes."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config

from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.engine.detector import checkpoint_config
from cellseg_mm.evaluation.coco_results import read_ground_truth
from cellseg_mm.images import open_image
from cellseg_mm.inference import CellInferencer
from cellseg_mm.models.given_boxes import check_teachable, class_layer, put_class_layer
from cellseg_mm.utils import UserError, read_json
from cellseg_mm.visualization.colors import class_colors

from .classifier import classify, fit_classifier, held_out_classes
from .comparison import compare_classes

# The detector names what it finds in boxes before their last refinement, so the classifier must not need tight ones.
COPIES = 4
SHIFT, STRETCH = 0.1, 0.15  # standard deviations, in sides of the box and as a logarithm


@dataclass(frozen=True)
class LabelledImage:
    """An image whose cells people have named.

    Attributes:
        path: The image file, in true RGB.
        boxes: (N, 4) float32 x1, y1, x2, y2 in px.
        labels: (N,) int64.
        pixel_size: Micrometres a px; None for what the file says.
    """

    path: Path
    boxes: np.ndarray
    labels: np.ndarray
    pixel_size: float | None = None


def read_labelled(root: Path, split: str = 'train') -> tuple:
    """The images of a prepared set.

    Args:
        root (Path): Made by tools/prepare_data.py.
        split (str): ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        tuple: list[LabelledImage] of the images with cells, and the names of the classes.

    Raises:
        UserError: If the split is missing or has no cells.
    """
    content = read_ground_truth(root / f'annotations/{split}.json')
    pixel_size = read_json(root / 'statistics.json', 'tools/prepare_data.py writes it').get('pixel_size')
    label_of = {entry['id']: index for index, entry in enumerate(content['categories'])}
    own = {image['id']: [] for image in content['images']}
    for entry in content['annotations']:
        if not entry.get('iscrowd'):
            own[entry['image_id']].append(entry)
    images = []
    for image in content['images']:
        entries = own[image['id']]
        if entries:
            boxes = np.array([entry['bbox'] for entry in entries], np.float32)
            boxes[:, 2:] += boxes[:, :2]
            labels = np.array([label_of[entry['category_id']] for entry in entries], np.int64)
            images.append(LabelledImage(root / 'images' / image['file_name'], boxes, labels, pixel_size))
    return images, [entry['name'] for entry in content['categories']]


def jitter_boxes(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 4) boxes shifted and stretched at random, see :data:`SHIFT`."""
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    centres = centres + rng.normal(0, SHIFT, centres.shape) * sides
    sides = sides * np.exp(rng.normal(0, STRETCH, sides.shape))
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)


class FeatureMemory:
    """What a detector sees in cells, each of which it looks at once: in its own box and in jittered ones.

    Args:
        detector (CellInferencer): The detector.
    """

    def __init__(self, detector: CellInferencer) -> None:
        self._detector = detector
        self._known = {}

    def __call__(self, image: LabelledImage) -> np.ndarray:
        """(COPIES, N, D) float32: the features of an image's cells. They do not depend on the other cells."""
        known = self._known.setdefault((image.path, image.pixel_size), {})
        names = [box.tobytes() for box in image.boxes]
        new = np.array([index for index, name in enumerate(names) if name not in known], np.int64)
        if len(new):
            known.update(zip([names[index] for index in new], self._see(image, image.boxes[new]), strict=True))
        return np.stack([known[name] for name in names], axis=1)

    def _see(self, image: LabelledImage, boxes: np.ndarray) -> np.ndarray:
        """(N, COPIES, D) float32."""
        source = open_image(image.path)  # in true RGB, whatever order the detector expects of files
        source.pixel_size = image.pixel_size or source.pixel_size
        jittered = [
            jitter_boxes(np.tile(box, (COPIES - 1, 1)), np.random.default_rng(box.view(np.uint32))) for box in boxes
        ]
        seen = np.concatenate([boxes[:, None], jittered], axis=1)
        return self._detector.features(source, seen.reshape(-1, 4)).reshape(*seen.shape[:2], -1)


def teach(
    checkpoint: str,
    images: Sequence,
    classes: Sequence,
    progress: Callable = iter,
    see: FeatureMemory | None = None,
    hold_out: bool = True,
) -> tuple:
    """Teach a detector other classes: see :class:`TaughtBBoxHead`.

    Args:
        checkpoint (str): A file whose boxes and masks are regardless of class, such as a shipped model's.
        images (Sequence[LabelledImage]): Their cells teach.
        classes (Sequence[str]): Names, in the order of the labels.
        progress (Callable): Wraps the iterable of images, to show progress.
        see (FeatureMemory | None): Of the checkpoint's detector, to keep features for another time.
        hold_out (bool): Whether to compare, by cross-validation; it takes up to five times as long as the fit.

    Returns:
        tuple: The content of the new checkpoint, and its :class:`Comparison` on held-out cells or None.

    Raises:
        UserError: If the detector cannot be taught, or its cells are of fewer than two classes.
    """
    content = read_checkpoint(checkpoint)
    cfg = checkpoint_config(content, checkpoint)
    check_teachable(cfg.model, checkpoint)
    labels = np.concatenate([image.labels for image in images]) if images else np.zeros(0, np.int64)
    if len(np.unique(labels)) < 2:
        raise UserError(
            f'cells of {len(np.unique(labels))} class(es) in {len(images)} images; teaching takes two or more'
        )
    see = see or FeatureMemory(CellInferencer(checkpoint))
    features = np.concatenate([see(image) for image in progress(images)], axis=1)
    fitted = fit_classifier(features.reshape(-1, features.shape[-1]), np.tile(labels, COPIES), len(classes))
    groups, blocks = _groups(images)
    comparison = None
    if hold_out and len(np.unique(groups)) > 1:
        after = held_out_classes(features, labels, groups, len(classes), COPIES)
        comparison = compare_classes(
            labels, _named_before(content, cfg, features[0], classes), after, blocks, len(classes)
        )
    counts = {name: int((labels == index).sum()) for index, name in enumerate(classes)}
    return _taught_checkpoint(content, cfg, *fitted, classes, dict(cells=counts, images=len(images))), comparison


def _groups(images: Sequence) -> tuple:
    """For each cell, what is held out together (its image; of one image, its quarter), and its quarter of its image."""
    quarters = []
    for number, image in enumerate(images):
        centres = (image.boxes[:, :2] + image.boxes[:, 2:]) / 2
        right, below = (centres > np.median(centres, axis=0)).T
        quarters.append(4 * number + 2 * below + right)
    blocks = np.concatenate(quarters)
    return (blocks // 4 if len(images) > 1 else blocks), blocks


def _named_before(content: dict, cfg: Config, features: np.ndarray, classes: Sequence) -> np.ndarray | None:
    """(N,) int64, the class that the checkpoint itself gives each cell; None if it knows none of the classes."""
    own = list(content['meta']['dataset_meta']['classes'])
    if not set(own) & set(classes):
        return None
    weights, biases = class_layer(cfg.model, content['state_dict'], len(own))
    places = np.array([list(classes).index(name) if name in classes else -1 for name in own])
    return places[classify(features[:, : weights.shape[1]], weights, biases)]


def is_teachable(checkpoint: str) -> bool:
    """Whether :func:`teach` takes a checkpoint."""
    try:
        check_teachable(checkpoint_config(read_checkpoint(checkpoint), checkpoint).model, checkpoint)
    except UserError:
        return False
    return True


def _taught_checkpoint(
    content: dict, cfg: Config, weights: np.ndarray, biases: np.ndarray, classes: Sequence, cells: dict
) -> dict:
    """The content of a checkpoint whose detector names cells by a fitted classifier."""
    cfg = copy.deepcopy(cfg)
    state = dict(content['state_dict'])
    put_class_layer(cfg.model, state, weights, biases)
    cfg.num_classes = len(classes)
    facts = dict(classes=tuple(classes), palette=class_colors(len(classes)))
    meta = dict(content['meta'], cfg=cfg.pretty_text, dataset_meta=facts, taught=cells)
    return dict(meta=meta, state_dict=state)
