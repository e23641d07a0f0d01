from .geometric import ApplyAffine, RandomResizedCrop, RandomRotation, RandomWindow, RandomZoom
from .loading import LoadCellAnnotations, LoadRecentImage
from .photometric import ColorJitter, RandomGamma, RandomGaussianBlur, RandomGaussianNoise

__all__ = [
    'ApplyAffine',
    'ColorJitter',
    'LoadCellAnnotations',
    'LoadRecentImage',
    'RandomGamma',
    'RandomGaussianBlur',
    'RandomGaussianNoise',
    'RandomResizedCrop',
    'RandomRotation',
    'RandomWindow',
    'RandomZoom',
]
