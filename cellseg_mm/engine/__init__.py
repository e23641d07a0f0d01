from .cpu_amp_optim_wrapper import CPUAmpOptimWrapper
from .hooks import (
    AnchorFitHook,
    CoreHoursHook,
    FiniteLossHook,
    FreezeBatchNormHook,
    InputScaleHook,
    NewClassHeadsHook,
    OperatingPointHook,
    ResumeValidationHook,
    SeedHook,
    StopwatchHook,
    TrainingSetHook,
    ValLossHook,
    ValPrecisionHook,
)
from .log_processor import HeadlineLogProcessor

__all__ = [
    'AnchorFitHook',
    'CPUAmpOptimWrapper',
    'CoreHoursHook',
    'FiniteLossHook',
    'FreezeBatchNormHook',
    'HeadlineLogProcessor',
    'InputScaleHook',
    'NewClassHeadsHook',
    'OperatingPointHook',
    'ResumeValidationHook',
    'SeedHook',
    'StopwatchHook',
    'TrainingSetHook',
    'ValLossHook',
    'ValPrecisionHook',
]
