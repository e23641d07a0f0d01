"""What importing the package changes in other packages, all of it."""

from .engine.checkpoint import guard_checkpoints
from .images import silence_readers
from .models.layers import offer_to_mmcv


def install() -> None:
    """Guard MMEngine's checkpoints, offer our NMS and RoIAlign to mmcv, and silence the image readers.

    The import also registers what the configs name. A second call changes nothing.
    """
    guard_checkpoints()
    offer_to_mmcv()
    silence_readers()
