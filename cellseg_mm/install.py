"""What importing the package changes in other packages, all of it."""

from .engine.checkpoint import guard_checkpoints
from .images import silence_readers
from .models.layers import offer_to_mmcv


def install() -> None:
    """Guard MMEngine's checkpoints, offer our NMS and RoIAlign to mmcv and silence the readers of images.

    Beside this, the import registers what the configs name. Calling it twice changes nothing more.
    """
    guard_checkpoints()
    offer_to_mmcv()
    silence_readers()
