from .anchor_fit_hook import AnchorFitHook

__all__ = ['AnchorFitHook']
