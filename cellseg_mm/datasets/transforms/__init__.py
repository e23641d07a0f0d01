from .geometric import ApplyAffine, RandomResizedCrop, RandomRotation, RandomWindow, RandomZoom
from .loading import LoadCellAnnotations
from .photometric import ColorJitter, RandomGamma, RandomGaussianBlur, RandomGaussianNoise
from .resized_size import resized_size

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
    'resized_size',
]
