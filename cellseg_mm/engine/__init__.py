from . import checkpoint
from .hooks import AnchorFitHook, OperatingPointHook, ResumeValidationHook, SeedHook, ValLossHook
from .log_processor import HeadlineLogProcessor

__all__ = [
    'AnchorFitHook',
    'HeadlineLogProcessor',
    'OperatingPointHook',
    'ResumeValidationHook',
    'SeedHook',
    'ValLossHook',
    'checkpoint',
]
