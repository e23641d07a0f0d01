from . import checkpoint
from .hooks import (
    AnchorFitHook,
    FiniteLossHook,
    InputScaleHook,
    NewClassHeadsHook,
    OperatingPointHook,
    ResumeValidationHook,
    SeedHook,
    StopwatchHook,
    TrainingSetHook,
    ValLossHook,
)
from .log_processor import HeadlineLogProcessor

__all__ = [
    'AnchorFitHook',
    'FiniteLossHook',
    'HeadlineLogProcessor',
    'InputScaleHook',
    'NewClassHeadsHook',
    'OperatingPointHook',
    'ResumeValidationHook',
    'SeedHook',
    'StopwatchHook',
    'TrainingSetHook',
    'ValLossHook',
    'checkpoint',
]
