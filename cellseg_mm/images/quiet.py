import logging

import cv2


def silence_readers() -> None:
    """Turn off the logs of tifffile and OpenCV; broken files raise errors of one line instead."""
    logging.getLogger('tifffile').setLevel(logging.CRITICAL)
    set_log_level = cv2.setLogLevel if hasattr(cv2, 'setLogLevel') else cv2.utils.logging.setLogLevel  # OpenCV 4 or 5
    set_log_level(0)
