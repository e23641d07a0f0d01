from .geometric import ApplyAffine, RandomQuarterTurn, RandomResizedCrop, RandomRotation, RandomWindow, RandomZoom
from .loading import LoadCellAnnotations, LoadRecentImage
from .photometric import ColorJitter, RandomGamma, RandomGaussianBlur, RandomGaussianNoise, StainJitter
from .resized_size import find_resize, resized_size

__all__ = [
    'ApplyAffine',
    'ColorJitter',
    'LoadCellAnnotations',
    'LoadRecentImage',
    'RandomGamma',
    'RandomGaussianBlur',
    'RandomGaussianNoise',
    'RandomQuarterTurn',
    'RandomResizedCrop',
    'RandomRotation',
    'RandomWindow',
    'RandomZoom',
    'StainJitter',
    'find_resize',
    'resized_size',
]
