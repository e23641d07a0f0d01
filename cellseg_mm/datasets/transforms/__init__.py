from .geometric import ApplyAffine, RandomQuarterTurn, RandomResizedCrop, RandomRotation, RandomWindow, RandomZoom
from .loading import LoadCellAnnotations, LoadRecentImage
from .photometric import ColorJitter, RandomGamma, RandomGaussianBlur, RandomGaussianNoise
from .resized_size import resized_size

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
    'resized_size',
]
