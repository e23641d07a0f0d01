from .prepare import CLASSES, prepare
from .synthetic import make_sample_data

__all__ = ['CLASSES', 'make_sample_data', 'prepare']
