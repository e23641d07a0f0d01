from . import transforms
from .cell_dataset import CellDataset, RedrawDataset, inner_datasets
from .prepare import CLASSES, prepare
from .synthetic import make_sample_data

__all__ = ['CLASSES', 'CellDataset', 'RedrawDataset', 'inner_datasets', 'make_sample_data', 'prepare', 'transforms']
