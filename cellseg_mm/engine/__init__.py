from .hooks import AnchorFitHook

__all__ = ['AnchorFitHook']
