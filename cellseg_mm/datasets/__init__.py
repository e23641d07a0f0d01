from . import transforms
from .cell_dataset import CellDataset, RedrawDataset, inner_datasets
from .formats import FORMATS
from .formats.task import CLASSES
from .prepare import prepare
from .synthetic import make_sample_data

__all__ = [
    'CLASSES',
    'FORMATS',
    'CellDataset',
    'RedrawDataset',
    'inner_datasets',
    'make_sample_data',
    'prepare',
    'transforms',
]
