from .hooks import AnchorFitHook, DatasetEpochHook

__all__ = ['AnchorFitHook', 'DatasetEpochHook']
