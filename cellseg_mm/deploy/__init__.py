"""A trained model as a file that runs without us: weights as safetensors, the whole detector as ONNX.

Both carry what their use needs as metadata, by key a JSON text: see docs/export.md.
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
