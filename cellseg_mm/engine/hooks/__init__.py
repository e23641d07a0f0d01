from .anchor_fit_hook import AnchorFitHook
from .core_hours_hook import CoreHoursHook
from .finite_loss_hook import FiniteLossHook
from .freeze_batch_norm_hook import FreezeBatchNormHook
from .input_scale_hook import InputScaleHook
from .new_class_heads_hook import NewClassHeadsHook
from .operating_point_hook import OperatingPointHook
from .resume_validation_hook import ResumeValidationHook
from .seed_hook import SeedHook
from .stopwatch_hook import StopwatchHook
from .training_set_hook import TrainingSetHook
from .val_loss_hook import ValLossHook
from .val_precision_hook import ValPrecisionHook

__all__ = [
    'AnchorFitHook',
    'CoreHoursHook',
    'FiniteLossHook',
    'FreezeBatchNormHook',
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
