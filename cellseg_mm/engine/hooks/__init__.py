from .anchor_fit_hook import AnchorFitHook
from .dataset_epoch_hook import DatasetEpochHook

__all__ = ['AnchorFitHook', 'DatasetEpochHook']
