"""Teach a detector the classes of your cells: its boxes and masks stay, and a classifier of its features is fitted."""

from .classifier import classify, fit_classifier, held_out_classes
from .comparison import Comparison, compare_classes
from .teach import FeatureMemory, LabelledImage, is_teachable, read_labelled, teach

__all__ = [
    'Comparison',
    'FeatureMemory',
    'LabelledImage',
    'classify',
    'compare_classes',
    'fit_classifier',
    'held_out_classes',
    'is_teachable',
    'read_labelled',
    'teach',
]
