"""Instance segmentation of cells with MMDetection.

Importing the package registers all that the configs name; it is the one entry in their ``custom_imports``. What else it
changes in other packages stands in :func:`cellseg_mm.install.install`.
"""

import contextlib
import io

try:
    import mmcv.ops  # noqa: F401
except ImportError as error:
    raise ImportError(
        'mmcv is installed without its compiled ops (nms, roi_align): run `make setup`, or install it by '
        '`pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps onedl-mmcv==2.3.6`'
    ) from error

with contextlib.redirect_stdout(io.StringIO()):  # mmdet prints that a paid dataset service is not installed
    import mmdet.datasets  # noqa: F401

from . import datasets, engine, evaluation, models, visualization
from .inference import CellInferencer
from .install import install
from .version import __version__

__all__ = ['CellInferencer', '__version__', 'datasets', 'engine', 'evaluation', 'install', 'models', 'visualization']

install()
