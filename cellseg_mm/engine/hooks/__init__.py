from .anchor_fit_hook import AnchorFitHook
from .input_scale_hook import InputScaleHook
from .operating_point_hook import OperatingPointHook
from .resume_validation_hook import ResumeValidationHook
from .seed_hook import SeedHook
from .val_loss_hook import ValLossHook

__all__ = ['AnchorFitHook', 'InputScaleHook', 'OperatingPointHook', 'ResumeValidationHook', 'SeedHook', 'ValLossHook']
