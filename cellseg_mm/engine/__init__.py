from . import checkpoint
from .hooks import (
    AnchorFitHook,
    FiniteLossHook,
    OperatingPointHook,
    ResumeValidationHook,
    SeedHook,
    TrainingSetHook,
    ValLossHook,
)
from .log_processor import HeadlineLogProcessor

__all__ = [
    'AnchorFitHook',
    'FiniteLossHook',
    'HeadlineLogProcessor',
    'OperatingPointHook',
    'ResumeValidationHook',
    'SeedHook',
    'TrainingSetHook',
    'ValLossHook',
    'checkpoint',
]
