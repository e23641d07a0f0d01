"""A trained model as a file that runs without this project: weights as safetensors, the whole detector as ONNX.

Both hold what their use needs as metadata, a JSON text for each key: see docs/deploy.md.
"""

from .metadata import input_sizes, metadata
from .onnx_file import check_traceable, compare, detect, drawn_image, to_onnx
from .safetensors_file import to_safetensors
from .traceable_mask_rcnn import TraceableMaskRCNN

__all__ = [
    'TraceableMaskRCNN',
    'check_traceable',
    'compare',
    'detect',
    'drawn_image',
    'input_sizes',
    'metadata',
    'to_onnx',
    'to_safetensors',
]
