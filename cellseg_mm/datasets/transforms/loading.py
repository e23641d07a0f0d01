import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

from cellseg_mm.structures import InstanceMapMasks, decode_runs, lay_runs, read_layers, to_code
from cellseg_mm.utils import Recent, UserError


@TRANSFORMS.register_module()
class LoadRecentImage(LoadImageFromFile):
    """mmcv's LoadImageFromFile that keeps the pixels of the last files, for windows of a few large images.

    Pixels are read-only: a transform that works in place fails instead of changing the next window.

    Required Keys:

    - img_path

    Added Keys:

    - img, img_shape, ori_shape

    Args:
        keep (int): Number of images that each worker keeps.
        **kwargs: As for :class:`mmcv.transforms.LoadImageFromFile`.
    """

    def __init__(self, keep: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self._load = Recent(self._read, keep)

    def _read(self, path: str) -> np.ndarray:
        image = super().transform(dict(img_path=path))['img']
        image.flags.writeable = False
        return image

    def transform(self, results: dict) -> dict:
        """Add the image."""
        image = self._load(results['img_path'])
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results


@TRANSFORMS.register_module()
class LoadCellAnnotations(BaseTransform):
    """Load boxes, labels and the id map.

    The map is read from ``instance_map_path``. Without that key it is built from the instances' COCO masks, run-length
    codes or polygons, with overlapping ones in further layers.

    Required Keys:

    - height, width
    - instances (list of dict with bbox, bbox_label, ignore_flag; and instance_id and area, or mask)
    - instance_map_path (optional)

    Added Keys:

    - gt_bboxes (HorizontalBoxes[torch.float32])
    - gt_bboxes_labels (np.int64)
    - gt_ignore_flags (bool)
    - gt_masks (InstanceMapMasks)

    Args:
        keep (int): Number of maps that each worker keeps, see :class:`LoadRecentImage`.

    Raises:
        UserError: If the map cannot be read or has another size than the image, or a mask is broken.
    """

    def __init__(self, keep: int = 0) -> None:
        self._read_layers = Recent(read_layers, keep)

    def transform(self, results: dict) -> dict:
        """Add the annotations."""
        instances = results['instances']
        boxes = np.array([instance['bbox'] for instance in instances], np.float32).reshape(-1, 4)
        results['gt_bboxes'] = HorizontalBoxes(boxes)
        results['gt_bboxes_labels'] = np.array([instance['bbox_label'] for instance in instances], np.int64)
        results['gt_ignore_flags'] = np.array([instance['ignore_flag'] for instance in instances], bool)
        results['gt_masks'] = self._load_masks(results)
        return results

    def _load_masks(self, results: dict) -> InstanceMapMasks:
        instances, shape = results['instances'], (results['height'], results['width'])
        path = results.get('instance_map_path')
        if not path:
            try:
                return masks_from_coco([instance['mask'] for instance in instances], *shape)
            except ValueError as error:
                raise UserError(f'{results.get("img_path")}: broken mask in its annotations ({error})') from error
        try:
            layers = self._read_layers(path)
        except OSError as error:
            raise UserError(f'{error}; prepare the data again') from error
        if layers.shape[1:] != shape:
            raise UserError(
                f'{path}: {layers.shape[2]}x{layers.shape[1]} px, its image has {shape[1]}x{shape[0]}; prepare the '
                'data again'
            )
        ids, areas = ([instance[key] for instance in instances] for key in ('instance_id', 'area'))
        return InstanceMapMasks(layers, ids, areas)

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def masks_from_coco(segmentations: list, height: int, width: int) -> InstanceMapMasks:
    """An id map from COCO segmentations.

    Args:
        segmentations (list): N, each a list of polygons [x1, y1, x2, y2, ...], or run-length code, compressed or not.
        height (int): Of the image in px.
        width (int): Of the image in px.

    Returns:
        InstanceMapMasks: N instances, with ids 1..N; an empty mask keeps its place.

    Raises:
        ValueError: If a code is broken or of another size; it names the index.
    """
    codes = [to_code(segmentation, height, width) for segmentation in segmentations]
    wrong = [index for index, code in enumerate(codes) if list(code['size']) != [height, width]]
    if wrong:
        raise ValueError(f'code {wrong[0]}: {codes[wrong[0]]["size"]}, the image {[height, width]} (height, width)')
    layers = lay_runs(decode_runs(codes), len(codes), height, width)
    return InstanceMapMasks(layers, np.arange(1, len(codes) + 1))
