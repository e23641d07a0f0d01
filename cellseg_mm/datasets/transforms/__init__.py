from .geometric import ApplyAffine, RandomResizedCrop, RandomRotation, RandomWindow, RandomZoom
from .loading import LoadCellAnnotations
from .photometric import ColorJitter, RandomGamma, RandomGaussianBlur, RandomGaussianNoise

__all__ = [
    'ApplyAffine',
    'ColorJitter',
    'LoadCellAnnotations',
    'RandomGamma',
    'RandomGaussianBlur',
    'RandomGaussianNoise',
    'RandomResizedCrop',
    'RandomRotation',
    'RandomWindow',
    'RandomZoom',
]
