import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.dataset import RepeatDataset

from cellseg_mm.utils import UserError

# the label of a cell whose class nobody said; mmdet's labels are 0..C-1, and C for the background
UNKNOWN_CLASS = -1


@contextmanager
def fixed_randomness(*key: int) -> Iterator:
    """Within the block, ``random`` and ``numpy.random`` draw from a stream that depends only on ``key``.

    torch's generator stays as it is: the model draws from it, transforms do not.

    Args:
        *key (int): Numbers from 0, such as (seed, epoch, index).
    """
    states = random.getstate(), np.random.get_state()
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@DATASETS.register_module()
class CellDataset(CocoDataset):
    """A prepared data set: COCO annotations, with an id map for each image.

    Augmentation draws from (seed, epoch, index of the image), so runs repeat and resume exactly with any number of
    workers; stock datasets draw from the workers' streams. If a stock wrapper repeats an image within an epoch, all
    copies are augmented the same way; with :class:`RedrawDataset` they differ. :class:`SeedHook` sets seed and epoch.

    Args:
        *args: As for :class:`mmdet.datasets.CocoDataset`.
        instance_prefix (str): Folder of the id maps, below ``data_root``.
        unknown_class (bool): Whether all cells get the label :data:`UNKNOWN_CLASS`, whatever their category: to train
            on a second set without classes, or with others. The box head must be :class:`OneClassBBoxHead`.
        **kwargs: As for :class:`mmdet.datasets.CocoDataset`.
    """

    def __init__(self, *args, instance_prefix: str = 'instances', unknown_class: bool = False, **kwargs) -> None:
        self.instance_prefix = instance_prefix
        self.unknown_class = unknown_class
        # in shared memory, because persistent workers hold copies of the dataset
        self._seed_and_epoch = torch.zeros(2, dtype=torch.int64).share_memory_()
        super().__init__(*args, **kwargs)

    def set_randomness(self, seed: int, epoch: int) -> None:
        """Set the seed of the run and the epoch, from 0, that augmentation draws from; workers see them too."""
        self._seed_and_epoch.copy_(torch.tensor([seed, epoch]))

    def __getitem__(self, index: int) -> dict:
        """The image at ``index`` through the pipeline."""
        return self.draw(index)

    def draw(self, index: int, number: int = 0) -> dict:
        """The image at ``index`` as the draw with this number, from 0, within the epoch.

        Raises:
            UserError: If its file is missing.
        """
        try:
            with fixed_randomness(*self._seed_and_epoch.tolist(), index, number):
                return super().__getitem__(index)
        except FileNotFoundError as error:
            raise UserError(f'{error.filename}: missing from the prepared data set; prepare the data again') from error

    def filter_data(self) -> list:
        """As in mmdet.

        Raises:
            UserError: If no image is left.
        """
        kept = super().filter_data()
        if not kept:
            found = f'filter_cfg {self.filter_cfg} leaves none of its {len(self.data_list)} images'
            raise UserError(f'{self.ann_file}: {found if self.data_list else "lists no images"}')
        return kept

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """As in mmdet; with an id map, also ``instance_map_path``, and ``instance_id`` and ``area`` of each."""
        if self.unknown_class:
            self.cat_ids = self.coco.get_cat_ids()
            self.cat2label = dict.fromkeys(self.cat_ids, UNKNOWN_CLASS)
        info = super().parse_data_info(raw_data_info)
        name = raw_data_info['raw_img_info'].get('instance_map')
        if name:
            info['instance_map_path'] = str(Path(self.data_root or '') / self.instance_prefix / name)
            # mmdet drops empty instances and those of other classes; the others keep their very segmentation object
            entries = {id(entry['segmentation']): entry for entry in raw_data_info['raw_ann_info']}
            for instance in info['instances']:
                entry = entries[id(instance['mask'])]
                instance.update(instance_id=entry['instance_id'], area=entry['area'])
        return info


@DATASETS.register_module()
class RedrawDataset(RepeatDataset):
    """A :class:`CellDataset` repeated within an epoch, each time with new augmentation: several windows of each image.

    Args:
        dataset (dict | CellDataset): The dataset to repeat.
        times (int): Draws of each image in an epoch.
        lazy_init (bool): As in mmengine's wrapper.
    """

    def __getitem__(self, index: int) -> dict:
        """Draw ``index // images`` of image ``index % images``."""
        number, image = divmod(index, len(self.dataset))
        return self.dataset.draw(image, number)


def inner_datasets(dataset: object) -> Iterator:
    """A dataset, or all datasets in a wrapper (repeated, concatenated)."""
    inner = getattr(dataset, 'datasets', [dataset.dataset] if hasattr(dataset, 'dataset') else [])
    if not inner:
        yield dataset
    for entry in inner:
        yield from inner_datasets(entry)
