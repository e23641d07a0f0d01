from . import checkpoint
from .hooks import AnchorFitHook, InputScaleHook, OperatingPointHook, ResumeValidationHook, SeedHook, ValLossHook
from .log_processor import HeadlineLogProcessor

__all__ = [
    'AnchorFitHook',
    'HeadlineLogProcessor',
    'InputScaleHook',
    'OperatingPointHook',
    'ResumeValidationHook',
    'SeedHook',
    'ValLossHook',
    'checkpoint',
]
